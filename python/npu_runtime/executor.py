"""Executor: a program made ready for one device; checks its inputs, runs, hands out outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from npu_compiler.names import aliases
from npu_compiler.program.schema import NONE
from npu_runtime import _native
from npu_runtime.buffer import NPUBuffer
from npu_runtime.errors import ArgumentError, ProgramError, WeightError
from npu_runtime.layout import Layout
from npu_runtime.memory import Memory, Pool
from npu_runtime.names import NamedOutputs, listed, pick
from npu_runtime.weight_set import WeightSet

if TYPE_CHECKING:
    from npu_compiler.compiled_program import CompiledProgram
    from npu_runtime.device import Device

# (index of the dispatch, begin, end) in nanoseconds of a steady clock.
DispatchTimes = list[tuple[int, int, int]]


class Executor:
    """Runs a compiled program on a device. Safe to use from several threads at once.

    Loading verifies the program and prepares every dispatch; the first run with a set of weights
    binds them. Output buffers come from a pool: an output stays valid and unchanged for as long
    as it is referred to.
    """

    def __init__(self, program: CompiledProgram, device: Device) -> None:
        self._program = program
        self._device = device
        self._native_program = _native_program(program)
        self._executable = device.native.load(self._native_program)
        self._input_names = [spec.name for spec in program.input_specs]
        self._input_aliases = aliases("input", self._input_names)
        self._input_layouts = [Layout.of_spec(spec) for spec in program.input_specs]
        self._input_pools = [Pool(device.native, layout.nbytes) for layout in self._input_layouts]
        self._output_names = [spec.name for spec in program.output_specs]
        self._output_aliases = aliases("output", self._output_names)
        self._output_layouts = [Layout.of_spec(spec) for spec in program.output_specs]
        self._donors = self._native_program.entry_points[0].output_donors
        self._pools = [Pool(device.native, layout.nbytes) for layout in self._output_layouts]
        self._weight_names = [spec.name for spec in program.weight_specs]
        self._weight_layouts = [Layout.of_spec(spec) for spec in program.weight_specs]
        # What the last run was bound with: the weights, NPUBuffer.changes at that time, the
        # binding. Replaced as a whole, so that threads see one or the other.
        self._bound: tuple[WeightSet | None, int, _native.Binding | None] = (None, -1, None)

    @property
    def program(self) -> CompiledProgram:
        """The program that runs."""
        return self._program

    @property
    def device(self) -> Device:
        """The device it runs on."""
        return self._device

    def run(
        self, inputs: Mapping[str, Any], weights: Mapping[str, NPUBuffer]
    ) -> NamedOutputs[NPUBuffer]:
        """Run the program once and wait for it: output names -> buffers.

        ``inputs`` are NPUBuffers made with the program's specs, or arrays (numpy, torch), which
        are converted. ``weights`` is what load_weights returned. Names may be the spec's or
        aliases ("input", "output", "logits" where there is one; "input_0"…). Raises ArgumentError
        (WeightError for weights) before anything is written.
        """
        return self._run(inputs, weights, profile=False)[0]

    def run_profiled(
        self, inputs: Mapping[str, Any], weights: Mapping[str, NPUBuffer]
    ) -> tuple[NamedOutputs[NPUBuffer], DispatchTimes]:
        """As ``run``, and when each dispatch began and ended."""
        return self._run(inputs, weights, profile=True)

    def bind(self, weights: Mapping[str, NPUBuffer]) -> None:
        """Do now what the first run with these weights would do: check them and repack them."""
        self._binding(weights)

    def _run(
        self, inputs: Mapping[str, Any], weights: Mapping[str, NPUBuffer], profile: bool
    ) -> tuple[NamedOutputs[NPUBuffer], DispatchTimes]:
        binding = self._binding(weights)
        arguments = self._arguments(inputs)
        outputs = [
            NPUBuffer(self._output_memory(index, arguments), layout, self._device)
            for index, layout in enumerate(self._output_layouts)
        ]
        times = self._executable.run(
            binding, 0, [a.native for a in arguments], [o.native for o in outputs], profile
        )
        named = NamedOutputs(
            dict(zip(self._output_names, outputs, strict=True)), self._output_aliases
        )
        return named, times or []

    def _output_memory(self, index: int, arguments: Sequence[NPUBuffer]) -> Memory:
        """Memory for an output: from the pool, or the input's that the program writes in place."""
        donor = self._donors[index]
        return self._pools[index].take() if donor == NONE else arguments[donor].memory

    def _arguments(self, inputs: Mapping[str, Any]) -> list[NPUBuffer]:
        """The inputs as buffers in the program's order, every one checked."""
        if not isinstance(inputs, Mapping):
            raise ArgumentError(
                f"inputs of type {type(inputs).__name__}: give a dict of "
                f"{listed(self._input_names)}"
            )
        values = pick(inputs, self._input_names, self._input_aliases, "input")
        for index, value in enumerate(values):
            if isinstance(value, NPUBuffer):
                self._check(
                    value, self._input_layouts[index], f"input {self._input_names[index]!r}"
                )
        return [
            value if isinstance(value, NPUBuffer) else self._converted(index, value)
            for index, value in enumerate(values)
        ]

    def _converted(self, index: int, value: Any) -> NPUBuffer:
        """An array as a buffer in reused memory, whose padding is zero from its first use on."""
        memory = self._input_pools[index].take()
        what = f"input {self._input_names[index]!r}"
        return NPUBuffer.filled(memory, self._input_layouts[index], self._device, value, what)

    def _check(self, buffer: NPUBuffer, layout: Layout, what: str) -> None:
        if buffer.device is not self._device and buffer.device != self._device:
            raise ArgumentError(
                f"{what} lies on device {buffer.device.kind!r}, the program runs on "
                f"{self._device.kind!r}: upload it there"
            )
        if buffer.layout is layout or buffer.layout == layout:
            return
        same = buffer.shape == layout.shape and buffer.dtype == layout.dtype
        detail = f"strides {buffer.layout.strides}, not {layout.strides}" if same else str(layout)
        raise ArgumentError(
            f"{what} is {buffer.layout}, the program takes {detail}: "
            "make it with NPUBuffer.from_numpy(array, device, spec=…) and the program's spec"
        )

    def _binding(self, weights: Mapping[str, NPUBuffer]) -> _native.Binding:
        bound_set, changes, binding = self._bound
        if (
            binding is not None
            and changes == NPUBuffer.changes
            and (weights is bound_set or self._is_dict_of(weights, bound_set))
        ):
            return binding
        # Read before binding: a change that comes in between is then seen by the next run.
        changes = NPUBuffer.changes
        weight_set = self._weight_set(weights, bound_set)
        binding = weight_set.binding(self, self._executable)
        self._bound = (weight_set, changes, binding)
        return binding

    def _is_dict_of(self, weights: Mapping[str, NPUBuffer], last: WeightSet | None) -> bool:
        """Whether a plain dict holds the very buffers that were bound last."""
        return (
            last is not None
            and isinstance(weights, dict)
            and len(weights) == len(last)
            and last.holds([weights.get(name) for name in self._weight_names])
        )

    def _weight_set(self, weights: Mapping[str, NPUBuffer], last: WeightSet | None) -> WeightSet:
        """The weights in program order: the caller's set itself, the last one, or a new one."""
        if not isinstance(weights, Mapping):
            raise WeightError(f"weights of type {type(weights).__name__}: use load_weights")
        try:
            buffers = pick(weights, self._weight_names, {}, "weight")
        except ArgumentError as error:
            raise WeightError(str(error)) from None
        if last is not None and last.holds(buffers):
            return last
        for name, buffer, layout in zip(
            self._weight_names, buffers, self._weight_layouts, strict=True
        ):
            if not isinstance(buffer, NPUBuffer):
                raise WeightError(
                    f"weight {name!r} is a {type(buffer).__name__}, not an NPUBuffer: "
                    "use load_weights"
                )
            try:
                self._check(buffer, layout, f"weight {name!r}")
            except ArgumentError as error:
                raise WeightError(f"{error}; weights come from load_weights") from None
        if isinstance(weights, WeightSet) and weights.holds(buffers):
            return weights
        return WeightSet(dict(zip(self._weight_names, buffers, strict=True)))

    def __repr__(self) -> str:
        return f"Executor({self._program.model_name!r}, {self._device.kind})"


def _native_program(program: CompiledProgram) -> _native.Program:
    """The program, verified by the native reader; its file is mapped where it has one."""
    if program.path is None:
        return _native.Program.from_bytes(program.to_bytes())
    native = _native.Program.from_file(program.path)
    # The file may be another one by now: everything that this module relies on is compared.
    entry = native.entry_points[0]
    found = (native.dispatches, native.weight_sizes, entry.input_names, entry.output_names)
    known = (
        [(call.name, call.kernel_name) for call in program.kernel_calls],
        [program.buffer_allocations[spec.buffer].size_bytes for spec in program.weight_specs],
        [spec.name for spec in program.input_specs],
        [spec.name for spec in program.output_specs],
    )
    if found != known:
        raise ProgramError(
            f"{program.path} holds another program than the one that was loaded from it or saved "
            "to it: load it again"
        )
    return native
