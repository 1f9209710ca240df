"""PyTorch with transformers as a peer: eager, with its own growing cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from npu_sim.bench.language.stepper import Stepper


class TorchStepper(Stepper):
    """The transformers model in its checkpoint's dtype, compiled where ``compiled``."""

    def __init__(self, folder: Path, threads: int, compiled: bool = False) -> None:
        torch.set_num_threads(threads)
        self.name = "torch-compile" if compiled else "torch"
        models: Any = transformers.AutoModelForCausalLM
        self._model = models.from_pretrained(folder, dtype="auto", local_files_only=True).eval()
        self.precision = str(self._model.dtype).removeprefix("torch.")
        self._forward: Any = torch.compile(self._model) if compiled else self._model
        self._cache: Any = None

    def prompt(self, ids: Sequence[int]) -> int:
        self._cache = transformers.DynamicCache(config=self._model.config)
        return self._run(list(ids), logits_to_keep=1)

    def move_to(self, position: int) -> None:
        config = self._model.config
        heads = config.num_key_value_heads
        width = getattr(config, "head_dim", None) or (
            config.hidden_size // config.num_attention_heads
        )
        self._cache = transformers.DynamicCache(config=config)
        rows = torch.zeros(1, heads, position, width, dtype=self._model.dtype)
        for layer in range(config.num_hidden_layers):
            self._cache.update(rows, rows, layer)

    def token(self, token: int) -> int:
        found = self._run([token])
        self._cache.crop(-1)
        return found

    @torch.inference_mode()
    def _run(self, ids: list[int], **options: Any) -> int:
        logits = self._forward(
            torch.tensor([ids]), past_key_values=self._cache, use_cache=True, **options
        ).logits
        return int(logits[0, -1].argmax())
