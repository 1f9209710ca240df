"""What language models are timed on: a prompt, and single tokens at any position."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from npu_compiler.dtypes import DTYPES

if TYPE_CHECKING:
    from npu_compiler.compiled_program import CompiledProgram
    from npu_sim.llm import LLM


class Stepper(ABC):
    """A runtime with a loaded model."""

    name: str
    precision: str
    # Where ``--sweep`` goes no further: `move_to` would take many minutes. None: nowhere.
    furthest: int | None = None
    # Whether a prompt of another length costs nothing but its tokens.
    any_prompt = True

    @abstractmethod
    def prompt(self, ids: Sequence[int]) -> int:
        """Read a prompt into an empty cache; the likeliest next token."""

    @abstractmethod
    def move_to(self, position: int) -> None:
        """Have ``position`` tokens in the cache, whatever they are."""

    @abstractmethod
    def token(self, token: int) -> int:
        """Read one token; the likeliest next one. The cache is as long as before afterwards, or
        after the next `rewind`.
        """

    def rewind(self) -> None:  # noqa: B027 (most have nothing to do)
        """Have as many tokens in the cache as `move_to` said."""


class OwnStepper(Stepper):
    """Our own runtime, without tokenizer and text around it."""

    name = "npu_sim"

    def __init__(self, llm: LLM, precision: str) -> None:
        self.precision = precision
        self._engine = llm.engine(1)
        self._caches = self._engine.take_caches()

    def prompt(self, ids: Sequence[int]) -> int:
        from npu_sim.llm.engine import tokens_of

        self._caches.tokens = [[]]
        outputs = self._engine.prefill(self._caches, [list(ids)])
        return int(tokens_of(outputs[0])[0])

    def move_to(self, position: int) -> None:
        # What is in a cache costs nothing; rows that were never written are zero.
        self._caches.tokens = [[0] * position]

    def token(self, token: int) -> int:
        from npu_sim.llm.engine import tokens_of

        outputs = self._engine.decode(self._caches, [[token]])
        self._caches.tokens[0].pop()
        return int(tokens_of(outputs[0])[0])


def weight_bytes_per_token(program: CompiledProgram, entry: str = "decode") -> int:
    """Bytes of weights that matrix products of an entry point read: what a token costs at least."""
    read = {
        (view.buffer, view.offset): view
        for call in program.entry(entry).kernel_calls
        if call.kernel_name in ("linear", "gemm")
        for view in call.operands
        if view is not None and program.buffer_allocations[view.buffer].kind == "weight"
    }
    return sum(prod(view.shape) * DTYPES[view.dtype].size for view in read.values())


class BandwidthProbe:
    """Reads a large array with PyTorch's sum over float32, which does nothing but load and add."""

    def __init__(self, threads: int, nbytes: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._data = torch.ones(nbytes // 4)
        self.nbytes = nbytes

    def run(self) -> None:
        """Read all of it once."""
        self._data.sum()

    def bandwidth(self, milliseconds: float) -> float:
        """Bytes per second of a pass that took so long."""
        return self.nbytes / milliseconds * 1e3


def peak_rss_bytes() -> int | None:
    """The most memory that this process had resident, where the system says; in bytes."""
    if not os.path.exists("/proc/self/status"):
        return None
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None
