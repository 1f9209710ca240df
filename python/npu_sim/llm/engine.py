"""Runs the steps of a language model on a device: prompts into caches, tokens out of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_compiler.compiled_program import CompiledProgram, TensorSpec
from npu_runtime import Device, Executor
from npu_runtime.buffer import NPUBuffer
from npu_runtime.layout import Layout
from npu_runtime.memory import Memory
from npu_runtime.prepared_run import PreparedRun
from npu_runtime.weight_set import WeightSet

_CACHE_PREFIX = "caches_"
# What a step costs besides its tokens, in tokens: reading the weights. Steps of Qwen2.5-1.5B of 1,
# 8, 32 and 128 tokens take 93, 167, 322 and 950 ms on two cores with AVX512_BF16.
_STEP_COST = 16


@dataclass
class Caches:
    """The KV caches of B sequences, and the tokens that they hold of each. Rows beyond those are
    never looked at.
    """

    buffers: list[NPUBuffer]
    tokens: list[list[int]]
    # Steps on these caches, resolved when they were first taken.
    steps: dict[Entry, PreparedStep] = field(default_factory=dict)

    @property
    def lengths(self) -> list[int]:
        """How many tokens of each sequence are in the caches."""
        return [len(t) for t in self.tokens]


class Entry:
    """One entry point: its executor, and the names by which it is called."""

    def __init__(self, executor: Executor, inputs: Sequence[TensorSpec]) -> None:
        self.executor = executor
        self.caches = [spec for spec in inputs if spec.name.startswith(_CACHE_PREFIX)]
        self.inputs = [spec for spec in inputs if not spec.name.startswith(_CACHE_PREFIX)]
        # Tokens of a sequence that a step takes.
        self.tokens = self.inputs[0].shape[-1]

    def run(self, arguments: Sequence[Any], weights: WeightSet) -> list[NPUBuffer]:
        """Outputs in order, of an entry point without caches."""
        named = {spec.name: value for spec, value in zip(self.inputs, arguments, strict=True)}
        return list(self.executor.run(named, weights).values())

    def prepare(self, caches: Sequence[NPUBuffer], weights: WeightSet) -> PreparedStep:
        """A step that updates these caches in place."""
        named: dict[str, Any] = {spec.name: np.zeros(spec.shape, np.int64) for spec in self.inputs}
        named.update(zip((spec.name for spec in self.caches), caches, strict=True))
        run = self.executor.prepare(named, weights)
        return PreparedStep(run, [run.inputs[spec.name] for spec in self.inputs])


class PreparedStep:
    """A step with fixed buffers: what a token costs the host is writing a few numbers."""

    def __init__(self, run: PreparedRun, inputs: Sequence[NPUBuffer]) -> None:
        self._run = run
        self._inputs = inputs
        self._outputs = list(run.outputs.values())

    def run(self, arguments: Sequence[NDArray[np.int64]]) -> list[NPUBuffer]:
        """Outputs in order, whose content the next run replaces."""
        for buffer, array in zip(self._inputs, arguments, strict=True):
            buffer.write(array)
        self._run.run()
        return self._outputs


class Engine:
    """The entry points of a compiled language model, for ``batch`` sequences of at most ``rows``
    tokens. Several texts may be in the making at once, each with caches of its own.
    """

    def __init__(
        self, program: CompiledProgram, device: Device, weights: WeightSet, batch: int, rows: int
    ) -> None:
        self.program = program
        self.batch = batch
        self.rows = rows
        self._device = device
        self._weights = weights
        self._entries = {
            entry.name: Entry(
                Executor(program, device, entry=entry.name), program.entry(entry.name).input_specs
            )
            for entry in program.entry_points
        }
        self._steps = [e for e in self._entries.values() if e.caches]
        self._chunks = _cheapest_chunks(self._steps, batch)
        self._free: list[Caches] = []

    @property
    def weight_bytes(self) -> int:
        """Device memory of the weights, those that stay in the mapped file included."""
        return self._weights.size_bytes

    @property
    def cache_bytes(self) -> int:
        """Device memory of the caches of one batch."""
        return sum(Layout.of_spec(spec).nbytes for spec in self._steps[0].caches)

    def take_caches(self, prompts: Sequence[Sequence[int]] | None = None) -> Caches:
        """Caches for new texts: empty, or with what an earlier text had in common with
        ``prompts``, all but their last tokens at most.
        """
        if not self._free:
            self._free.append(self._new_caches())
        if prompts is None:
            caches = self._free.pop()
            caches.tokens = [[] for _ in range(self.batch)]
            return caches
        shared = [
            [_common(t, p) for t, p in zip(c.tokens, prompts, strict=True)] for c in self._free
        ]
        best = max(range(len(shared)), key=lambda i: sum(shared[i]))
        caches = self._free.pop(best)
        caches.tokens = [t[:n] for t, n in zip(caches.tokens, shared[best], strict=True)]
        return caches

    def _new_caches(self) -> Caches:
        layouts = [Layout.of_spec(spec) for spec in self._steps[0].caches]
        buffers = [
            NPUBuffer(Memory(self._device.native.allocate(x.nbytes)), x, self._device)
            for x in layouts
        ]
        return Caches(buffers, [[] for _ in range(self.batch)])

    def give_back(self, caches: Caches) -> None:
        """Caches that are no longer needed."""
        self._free.append(caches)

    def prefill(self, caches: Caches, prompts: Sequence[Sequence[int]]) -> list[NPUBuffer]:
        """Feed prompts, one or more tokens per sequence: the likeliest next tokens (B, 1) and the
        logits (B, 1, V) that they come from, until the next step replaces them.
        """
        outputs: list[NPUBuffer] = []
        for entry, parts in self._plan(prompts):
            outputs = self.step(entry, caches, parts)
        return outputs

    def _plan(
        self, prompts: Sequence[Sequence[int]]
    ) -> Iterator[tuple[Entry, list[Sequence[int]]]]:
        """Chunks of all prompts, such that the last one holds the last token of every prompt."""
        entries: list[Entry] = []
        left = max(len(prompt) for prompt in prompts)
        while left > 0:
            entries.append(self._chunks[min(left, len(self._chunks)) - 1])
            left -= entries[-1].tokens
        after = sum(entry.tokens for entry in entries)
        for entry in entries:
            # What the prompt has before the tokens that later steps take.
            before = after
            after -= entry.tokens
            yield (
                entry,
                [p[max(len(p) - before, 0) : max(len(p) - after, 0)] for p in prompts],
            )

    def score(self, caches: Caches, ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """Feed a text to the only sequence: the logits (tokens, V) of each chunk of it."""
        entry = self._steps[0]
        for first in range(0, len(ids), entry.tokens):
            part = ids[first : first + entry.tokens]
            (logits, *_) = self.step(entry, caches, [part])
            yield logits.to_numpy(np.float32)[0, : len(part)]

    def decode(self, caches: Caches, tokens: Sequence[Sequence[int]]) -> list[NPUBuffer]:
        """Feed one token of each sequence that goes on, none of the others; as ``prefill``."""
        return self.step(self._entries["decode"], caches, tokens)

    def sample(
        self,
        logits: NPUBuffer,
        temperature: float,
        top_k: int,
        top_p: float,
        uniform: NDArray[np.float32],
    ) -> NDArray[np.int64]:
        """Tokens (B,) drawn from logits (B, 1, V) by numbers (B,) in [0, 1); ``top_k`` 0: all."""
        heat = np.full(self.batch, temperature, np.float32)
        if top_k == 0 and top_p >= 1:
            found = self._entries["sample_all"].run((logits, heat, uniform), self._weights)
        else:
            counts = np.full(self.batch, top_k, np.int64)
            shares = np.full(self.batch, top_p, np.float32)
            arguments = (logits, heat, counts, shares, uniform)
            found = self._entries["sample"].run(arguments, self._weights)
        return tokens_of(found[0])

    def step(
        self, entry: Entry, caches: Caches, tokens: Sequence[Sequence[int]]
    ) -> list[NPUBuffer]:
        """Feed up to ``entry.tokens`` tokens of each sequence (none is fine too). The content of
        the outputs is replaced by the next such step on these caches.
        """
        shape = (self.batch, entry.tokens)
        ids = np.zeros(shape, np.int64)
        positions = np.zeros(shape, np.int64)
        # Padding is written to the last row of its sequence, which nothing reads.
        slots = np.empty(shape, np.int64)
        last = np.arange(self.batch, dtype=np.int64) * entry.tokens
        for b, given in enumerate(tokens):
            first, count = len(caches.tokens[b]), len(given)
            base = b * (self.rows + 1)
            ids[b, :count] = given
            positions[b, :count] = np.arange(first, first + count)
            slots[b, :count] = positions[b, :count] + base
            slots[b, count:] = base + self.rows
            last[b] += max(count, 1) - 1
        # Steps of one token, and those that return every row, need not be told which rows.
        arguments = (ids, positions, slots, last)[: len(entry.inputs)]
        prepared = caches.steps.get(entry)
        if prepared is None:
            prepared = caches.steps[entry] = entry.prepare(caches.buffers, self._weights)
        outputs = prepared.run(arguments)
        for b, given in enumerate(tokens):
            caches.tokens[b] += given
        return outputs


def tokens_of(buffer: NPUBuffer) -> NDArray[np.int64]:
    """Token ids (B, 1) on the device as (B,)."""
    return buffer.to_numpy(np.int64)[:, 0]


def _cheapest_chunks(steps: Sequence[Entry], batch: int) -> list[Entry]:
    """For every number of tokens, from 1 to what the largest step takes, the step to begin with:
    those that cost least together, padding included.
    """
    costs, first = [0], []
    for left in range(1, max(step.tokens for step in steps) + 1):
        cost, entry = min(
            ((batch * s.tokens + _STEP_COST + costs[max(left - s.tokens, 0)], s) for s in steps),
            key=lambda found: found[0],
        )
        costs.append(cost)
        first.append(entry)
    return first


def _common(held: Sequence[int], prompt: Sequence[int]) -> int:
    """How many tokens of a prompt, but the last, are those that caches hold."""
    most = min(len(held), len(prompt) - 1)
    return next((i for i in range(most) if held[i] != prompt[i]), most)
