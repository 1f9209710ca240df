"""PyTorch compiled with Inductor as a peer: transformers' static cache, shapes fixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers

from npu_sim.bench.language.settings import Settings
from npu_sim.bench.language.stepper import Stepper
from npu_sim.bench.language.torch_stepper import cache_sizes, load_model
from npu_sim.errors import NpuSimError

# Rows of caches that steps are compiled for: a step reads its whole cache, so that the smallest
# that fits is used; every further one costs another compilation.
_ROWS = (512, 4096)


class TorchCompileStepper(Stepper):
    """The transformers model's forward compiled for a prompt and for a token (needs a C++ compiler;
    compiling takes a minute).
    """

    name = "torch-compile"
    any_prompt = False

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        self._longest = settings.max_cache_len
        self._model = load_model(settings.folder)
        self.precision = str(self._model.dtype).removeprefix("torch.")
        self._sizes = cache_sizes(self._model.config)
        self._forward: Any = torch.compile(self._model, dynamic=False)
        self._caches: dict[int, Any] = {}
        self._rows = self._position = 0
        try:
            self.prompt([1] * settings.prompt)
            self.move_to(settings.prompt)
            self.token(1)
        except Exception as error:
            # Whatever Inductor stumbles over (no compiler, an unsupported platform) makes this
            # peer absent, by name.
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise NpuSimError(f"torch.compile failed: {reason[0]}") from error

    def prompt(self, ids: Sequence[int]) -> int:
        self._use(len(ids) + 1)
        self._position = 0
        found = self._run(list(ids), logits_to_keep=1)
        self._position = len(ids)
        return found

    def move_to(self, position: int) -> None:
        self._use(position + 1)
        self._position = position

    def token(self, token: int) -> int:
        return self._run([token])

    def _use(self, length: int) -> None:
        """Have a cache for so many tokens. What it holds costs nothing."""
        sizes = [rows for rows in _ROWS if length <= rows <= self._longest]
        self._rows = min(sizes, default=self._longest)
        if self._rows in self._caches:
            return
        cache: Any = transformers.StaticCache(self._model.config, max_cache_len=self._rows)
        heads, width = self._sizes
        cache.early_initialization(1, heads, width, self._model.dtype, torch.device("cpu"))
        self._caches[self._rows] = cache

    @torch.inference_mode()
    def _run(self, ids: list[int], **options: Any) -> int:
        cache = self._caches[self._rows]
        for layer in cache.layers:
            layer.cumulative_length.fill_(self._position)
        positions = torch.arange(self._position, self._position + len(ids))[None]
        logits = self._forward(
            torch.tensor([ids]),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **options,
        ).logits
        return int(logits[0, -1].argmax())
