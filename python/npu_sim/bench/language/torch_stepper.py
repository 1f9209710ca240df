"""PyTorch with transformers as a peer: eager, with its own growing cache."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.cache_utils import DynamicLayer

from npu_sim.bench.language.settings import Settings
from npu_sim.bench.language.stepper import Stepper
from npu_sim.errors import NpuSimError
from npu_sim.llm.architecture import head_sizes


@lru_cache(maxsize=1)
def load_model(folder: Path) -> Any:
    """The transformers model of a directory in its checkpoint's dtype, one for all who ask."""
    models: Any = transformers.AutoModelForCausalLM
    return models.from_pretrained(folder, dtype="auto", local_files_only=True).eval()


def cache_sizes(config: Any) -> tuple[int, int]:
    """Heads of keys and values, and the width of a head.

    Raises NpuSimError for models whose layers do not all see all tokens: their caches cannot be
    set to a position.
    """
    kinds = {type(layer) for layer in transformers.DynamicCache(config=config).layers}
    if kinds != {DynamicLayer}:
        raise NpuSimError("no comparison for a model with sliding windows or recurrent layers")
    return head_sizes(config)


class TorchStepper(Stepper):
    """The transformers model, run operator by operator."""

    name = "torch"

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        self._model = load_model(settings.folder)
        self._sizes = cache_sizes(self._model.config)
        self.precision = str(self._model.dtype).removeprefix("torch.")
        self._cache: Any = None

    def prompt(self, ids: Sequence[int]) -> int:
        self._cache = transformers.DynamicCache(config=self._model.config)
        return self._run(list(ids), logits_to_keep=1)

    def move_to(self, position: int) -> None:
        config = self._model.config
        heads, width = self._sizes
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
        logits = self._model(
            torch.tensor([ids]), past_key_values=self._cache, use_cache=True, **options
        ).logits
        return int(logits[0, -1].argmax())
