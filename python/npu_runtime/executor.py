"""Executor: a program made ready for one device; checks its inputs, runs, hands out outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from npu_compiler.names import aliases
from npu_runtime.buffer import NPUBuffer
from npu_runtime.errors import ArgumentError
from npu_runtime.layout import Layout
from npu_runtime.loaded_program import check_buffer, load_program
from npu_runtime.memory import Memory, Pool
from npu_runtime.names import NamedOutputs, listed, pick
from npu_runtime.prepared_run import PreparedRun

if TYPE_CHECKING:
    from npu_compiler.compiled_program import CompiledProgram, ProgramEntry
    from npu_runtime.device import Device

# (index of the dispatch, begin, end) in nanoseconds of a steady clock.
DispatchTimes = list[tuple[int, int, int]]


class Executor:
    """Runs a compiled program on a device. Safe to use from several threads at once.

    Loading verifies the program and prepares every dispatch; the first run with a set of weights
    binds them. Executors of one program on one device (of its ``entry`` points, by default the
    first) share all of that, and their scratch memory. Output buffers come from a pool: an output
    stays valid and unchanged for as long as it is referred to.
    """

    def __init__(self, program: CompiledProgram, device: Device, entry: str | None = None) -> None:
        self._entry = _entry_of(program, entry)
        self._program = program
        self._device = device
        self._loaded = load_program(program, device)
        inputs, outputs = self._entry.input_specs, self._entry.output_specs
        self._input_names = [spec.name for spec in inputs]
        self._input_aliases = aliases("input", self._input_names)
        self._input_layouts = [Layout.of_spec(spec) for spec in inputs]
        self._input_pools = [Pool(device.native, layout.nbytes) for layout in self._input_layouts]
        self._output_names = [spec.name for spec in outputs]
        self._output_aliases = aliases("output", self._output_names)
        self._output_layouts = [Layout.of_spec(spec) for spec in outputs]
        self._donors = self._entry.record.donors or (None,) * len(outputs)
        self._pools = [Pool(device.native, layout.nbytes) for layout in self._output_layouts]
        # By output, the input that it becomes in the next run; and those inputs.
        self._carried: dict[str, str] = {}
        self._state: dict[str, Any] = {}

    @property
    def program(self) -> CompiledProgram:
        """The program that runs."""
        return self._program

    @property
    def entry(self) -> ProgramEntry:
        """The entry point that runs."""
        return self._entry

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
        self._loaded.binding(weights)

    def carry(self, mapping: Mapping[str, str], state: Mapping[str, Any] | None = None) -> None:
        """Keep a state between runs, such as a KV cache: by output, the input that it becomes.

        Those inputs need not be given to ``run`` any more. ``state`` holds the first values by
        input (a prefill's outputs, say), buffers or arrays; what it lacks begins with zeros. Where
        the program was compiled with these inputs donated, it writes the state in place and
        nothing is copied; else an output that lies in memory differently is converted on the host.
        Executors that carry a state are for one thread at a time.

        Raises ArgumentError for names that the program does not have, two outputs for one input,
        and pairs or values of different shape.
        """
        kept: dict[str, Any] = {}
        for output, name in mapping.items():
            if output not in self._output_names or name not in self._input_names:
                raise ArgumentError(
                    f"carry {output!r} to {name!r}: the outputs are {listed(self._output_names)}, "
                    f"the inputs {listed(self._input_names)}"
                )
            if name in kept:
                raise ArgumentError(f"carry: two outputs become input {name!r}")
            layout = self._input_layouts[self._input_names.index(name)]
            value = (state or {}).get(name)
            if value is None:
                value = NPUBuffer(
                    Memory(self._device.native.allocate(layout.nbytes)), layout, self._device
                )
            produced = self._output_layouts[self._output_names.index(output)]
            for what, shape in ((f"output {output!r}", produced.shape), ("its state", value.shape)):
                if tuple(shape) != layout.shape:
                    raise ArgumentError(
                        f"{what} has shape {list(shape)}, input {name!r} {list(layout.shape)}"
                    )
            kept[name] = self._as_input(name, value)
        unknown = sorted(set(state or {}) - kept.keys())
        if unknown:
            raise ArgumentError(f"carry: no output becomes {listed(unknown)}, which state holds")
        self._carried, self._state = dict(mapping), kept
        # What is left is what the caller speaks of: the only output may be called by its alias.
        left = [name for name in self._output_names if name not in mapping]
        self._output_aliases = aliases("output", left)

    def _as_input(self, name: str, value: Any) -> Any:
        """A buffer that lies as the input does as it is, others as arrays."""
        layout = self._input_layouts[self._input_names.index(name)]
        return (
            value.to_numpy() if isinstance(value, NPUBuffer) and value.layout != layout else value
        )

    def prepare(self, inputs: Mapping[str, Any], weights: Mapping[str, NPUBuffer]) -> PreparedRun:
        """What ``run`` would do with these inputs, resolved once, to be done many times.

        NPUBuffers stay the caller's, arrays get a buffer each; outputs get one too, or the memory
        of the input that is donated to them. Raises as ``run``.
        """
        arguments = self._arguments(inputs)
        outputs = self._outputs(arguments)
        return PreparedRun(
            self._loaded,
            self._entry.index,
            weights,
            NamedOutputs(dict(zip(self._input_names, arguments, strict=True)), self._input_aliases),
            self._named(outputs),
        )

    def _run(
        self, inputs: Mapping[str, Any], weights: Mapping[str, NPUBuffer], profile: bool
    ) -> tuple[NamedOutputs[NPUBuffer], DispatchTimes]:
        binding = self._loaded.binding(weights)
        arguments = self._arguments(inputs)
        outputs = self._outputs(arguments)
        times = self._loaded.executable.run(
            binding,
            self._entry.index,
            [a.native for a in arguments],
            [o.native for o in outputs],
            profile,
        )
        for name, buffer in zip(self._output_names, outputs, strict=True):
            if name in self._carried:
                becomes = self._carried[name]
                self._state[becomes] = self._as_input(becomes, buffer)
        return self._named(outputs), times or []

    def _outputs(self, arguments: Sequence[NPUBuffer]) -> list[NPUBuffer]:
        """A buffer for each output."""
        return [
            NPUBuffer(self._output_memory(index, arguments), layout, self._device)
            for index, layout in enumerate(self._output_layouts)
        ]

    def _named(self, outputs: Sequence[NPUBuffer]) -> NamedOutputs[NPUBuffer]:
        return NamedOutputs(
            dict(zip(self._output_names, outputs, strict=True)), self._output_aliases
        )

    def _output_memory(self, index: int, arguments: Sequence[NPUBuffer]) -> Memory:
        """Memory for an output: from the pool, or the input's that the program writes in place."""
        donor = self._donors[index]
        return self._pools[index].take() if donor is None else arguments[donor].memory

    def _arguments(self, inputs: Mapping[str, Any]) -> list[NPUBuffer]:
        """The inputs as buffers in the program's order, every one checked."""
        if not isinstance(inputs, Mapping):
            raise ArgumentError(
                f"inputs of type {type(inputs).__name__}: give a dict of "
                f"{listed(self._input_names)}"
            )
        if self._state:
            inputs = {**self._state, **inputs}
        values = pick(inputs, self._input_names, self._input_aliases, "input")
        for index, value in enumerate(values):
            if isinstance(value, NPUBuffer):
                what = f"input {self._input_names[index]!r}"
                check_buffer(value, self._input_layouts[index], self._device, what)
        return [
            value if isinstance(value, NPUBuffer) else self._converted(index, value)
            for index, value in enumerate(values)
        ]

    def _converted(self, index: int, value: Any) -> NPUBuffer:
        """An array as a buffer in reused memory, whose padding is zero from its first use on."""
        memory = self._input_pools[index].take()
        what = f"input {self._input_names[index]!r}"
        return NPUBuffer.filled(memory, self._input_layouts[index], self._device, value, what)

    def __repr__(self) -> str:
        entry = f", entry={self._entry.name!r}" if len(self._program.entry_points) > 1 else ""
        return f"Executor({self._program.model_name!r}, {self._device.kind}{entry})"


def _entry_of(program: CompiledProgram, name: str | None) -> ProgramEntry:
    try:
        return program.entry(name)
    except KeyError as error:
        raise ArgumentError(str(error.args[0])) from None
