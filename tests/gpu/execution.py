"""Runs a program's dispatches on the GPU, one after the other, in memory of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from npu_compiler.arrays import cast, numpy_dtype
from npu_compiler.compiled_program import CompiledProgram, TensorSpec
from npu_compiler.program.recipes import recipe_sources, run_recipe
from tests.gpu.driver import Memory, cuda
from tests.gpu.launches import Launch, Pick, chosen, make_launches

POISON = 0xFF


def device_weights(program: CompiledProgram, state: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What the weight recipes make of a state_dict, in the order of ``weight_specs``."""
    return [
        run_recipe(recipe, {key: state[key] for key in recipe_sources(recipe)})
        for recipe in program.weight_recipes
    ]


def _view(spec: TensorSpec, raw: np.ndarray) -> np.ndarray:
    """The tensor without its padding, in place in its raw memory."""
    dtype = numpy_dtype(spec.storage_dtype)
    strides = [s * dtype.itemsize for s in spec.strides]
    whole = np.ndarray(spec.alloc_shape, dtype, raw, 0, strides)
    # With the ellipsis it is an array where it has no dimensions, too.
    return whole[(*(slice(0, n) for n in spec.shape), ...)]


def packed(spec: TensorSpec, array: np.ndarray) -> np.ndarray:
    """The memory of an input with an array's values: cast, padded with zeros, permuted."""
    raw = np.zeros(spec.size_bytes, np.uint8)
    _view(spec, raw)[...] = cast(array, spec.storage_dtype)
    return raw


class GpuProgram:
    """An entry point in GPU memory. ``separate`` gives every intermediate memory of its own, where
    compute-sanitizer sees each access beyond it; otherwise they share the arena as on a device.

    ``weights`` are as ``device_weights`` makes them; None leaves them unset (for timing).
    """

    def __init__(
        self,
        program: CompiledProgram,
        weights: Sequence[np.ndarray] | None,
        entry: str | None = None,
        separate: bool = False,
        pick: Pick = chosen,
    ) -> None:
        self.program, self.entry = program, program.entry(entry)
        self._memory: dict[int, Memory] = {}
        self._arena = Memory(cuda(), 0 if separate else self.entry.arena_size)
        self._constants = Memory(cuda(), len(program.constants))
        self._constants.upload(program.constants)
        self._separate = separate
        self._weights = {spec.buffer for spec in program.weight_specs}
        for number, spec in enumerate(program.weight_specs):
            memory = self._own(spec.buffer)
            if weights is not None:
                memory.upload(weights[number].reshape(-1).view(np.uint8))
        inputs = [spec.buffer for spec in self.entry.input_specs]
        donors = self.entry.record.donors or (None,) * len(self.entry.output_specs)
        for spec, donor in zip(self.entry.output_specs, donors, strict=True):
            if donor is not None:
                self._memory[spec.buffer] = self._own(inputs[donor])
        self.calls = self.entry.kernel_calls
        # By dispatch.
        self.launches: list[list[Launch]] = [
            make_launches(
                call,
                [None if o is None else self._address(o.buffer) + o.offset for o in call.operands],
                pick,
            )
            for call in self.calls
        ]

    def _own(self, buffer: int) -> Memory:
        if buffer not in self._memory:
            self._memory[buffer] = Memory(
                cuda(), self.program.buffer_allocations[buffer].size_bytes
            )
        return self._memory[buffer]

    def _address(self, buffer: int) -> int:
        allocation = self.program.buffer_allocations[buffer]
        if allocation.kind == "constant":
            return self._constants.address + allocation.offset
        if allocation.kind == "arena" and not self._separate:
            return self._arena.address + allocation.offset
        if allocation.kind == "arena" and allocation.alias_of is not None:
            return self._address(allocation.alias_of)
        return self._own(buffer).address

    def memory(self, spec: TensorSpec) -> Memory:
        """Where an input, output or weight lies."""
        return self._own(spec.buffer)

    def start(self) -> None:
        """Start every dispatch."""
        for launches in self.launches:
            for launch in launches:
                launch.start()

    def run(self, inputs: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Run once with the inputs in order, over poisoned memory; each output in its dtype in the
        IR, and its raw memory.

        Raises CudaError.
        """
        self._arena.fill(POISON)
        for buffer, memory in self._memory.items():
            if buffer not in self._weights:
                memory.fill(POISON)
        for spec, array in zip(self.entry.input_specs, inputs, strict=True):
            self.memory(spec).upload(packed(spec, array))
        self.start()
        cuda().synchronize()
        results = []
        for spec in self.entry.output_specs:
            raw = self.memory(spec).download()
            results.append((cast(_view(spec, raw), spec.dtype).copy(), raw))
        return results
