"""Segments of a partitioned model made ready to run, and the tensors of a run on both sides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from npu_compiler.compiler import compile_graph
from npu_compiler.errors import CompileOptionError, NpuError
from npu_compiler.ir_reader import load_ir_from_dict
from npu_runtime.backend import Backend
from npu_runtime.buffer import NPUBuffer
from npu_runtime.convert import Array
from npu_runtime.cpu_fallback import CpuProgram
from npu_runtime.layout import Layout
from npu_runtime.weight_loader import Made, load_weights

if TYPE_CHECKING:
    from npu_compiler.compiled_program import CompiledProgram, TensorSpec
    from npu_compiler.partitioning.plan import Partition, PartitionPlan
    from npu_compiler.target import TargetConfig
    from npu_runtime.executor import Executor
    from npu_runtime.weight_set import WeightSet


@contextmanager
def naming(partition: Partition) -> Iterator[None]:
    """Put the segment's name before the message of any error in the body."""
    try:
        yield
    except NpuError as error:
        named = type(error)(f"{partition.label}: {error}")
        named.__dict__.update(error.__dict__)
        raise named from error


class Values:
    """The tensors of one run by name: on the host (arrays, torch tensors), on the device, or both.

    ``specs`` describe what NPU segments make.
    """

    def __init__(self, inputs: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> None:
        self._specs = specs
        self.host: dict[str, Any] = {}
        self.device: dict[str, NPUBuffer] = {}
        for name, value in inputs.items():
            (self.device if isinstance(value, NPUBuffer) else self.host)[name] = value

    def on_host(self, name: str) -> Any:
        """The tensor on the host, in its IR dtype; fetched from the device where it is not."""
        if name not in self.host:
            self.host[name] = self.device[name].to_numpy(spec=self._specs.get(name))
        return self.host[name]

    def for_device(self, name: str, layout: Layout) -> Any:
        """What an executor takes for an input of ``layout``: a buffer, or an array to upload."""
        buffer = self.device.get(name)
        if buffer is None:
            return self.host[name]
        if buffer.layout is layout or buffer.layout == layout:
            return buffer
        # Another layout of the same storage dtype: one strided copy, where the host can see it.
        if buffer.memory.host() is not None:
            return buffer.numpy_view()
        return buffer.to_numpy()

    def free(self, names: Sequence[str]) -> None:
        """Forget tensors that nothing reads any more."""
        for name in names:
            self.host.pop(name, None)
            self.device.pop(name, None)


class Segment(ABC):
    """One partition, ready to run."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition

    @property
    @abstractmethod
    def stateful(self) -> bool:
        """Whether it keeps tensors from one run to the next."""

    @abstractmethod
    def load_weights(self, weights: Mapping[str, Array], made: Made) -> None:
        """Take the model's weights and constants, by key; ``made`` is shared by all segments."""

    @abstractmethod
    def run(self, values: Values) -> None:
        """Read the inputs from ``values`` and add the outputs."""


class NpuSegment(Segment):
    """A segment compiled to a program. Tensors come from and stay on the device."""

    def __init__(
        self,
        plan: PartitionPlan,
        partition: Partition,
        backend: Backend,
        target: TargetConfig,
        made_on_npu: set[str],
        read_often: set[str],
    ) -> None:
        super().__init__(partition)
        self._backend = backend
        self._read_often = read_often
        program = _compile(plan, partition, target, made_on_npu)
        self._executor: Executor = backend.create_executor(program)
        inputs, outputs = program.input_specs, program.output_specs
        read, made = len(partition.input_names), len(partition.output_names)
        self._inputs = [
            (name, spec, Layout.of_spec(spec))
            for name, spec in zip(partition.input_names, inputs[:read], strict=True)
        ]
        self._outputs = list(zip(partition.output_names, outputs[:made], strict=True))
        # Weights that the segment writes to follow the inputs and, with new content, the outputs.
        self._state_inputs = inputs[read:]
        self._state: dict[str, NPUBuffer] = {}
        self._weights: WeightSet | None = None
        mapping = plan.original_ir.get("weight_name_mapping", {})
        self._state_keys = [mapping.get(name, name) for name in partition.state_names]

    @property
    def stateful(self) -> bool:
        return bool(self.partition.state_names)

    @property
    def program(self) -> CompiledProgram:
        """The compiled program."""
        return self._executor.program

    @property
    def weights(self) -> Mapping[str, NPUBuffer]:
        """Its weights on the device; empty before they are loaded."""
        return {} if self._weights is None else self._weights

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """How its outputs lie on the device."""
        return dict(self._outputs)

    def load_weights(self, weights: Mapping[str, Array], made: Made) -> None:
        needed = {t.name: weights[t.name] for t in self.program.source_tensors}
        loaded = load_weights(needed, self.program, self._backend.device, made=made)
        self._executor.bind(loaded)
        self._state = {
            spec.name: self._backend.allocate_buffer(weights[key], spec=spec)
            for key, spec in zip(self._state_keys, self._state_inputs, strict=True)
        }
        self._weights = loaded

    def run(self, values: Values) -> None:
        arguments = dict(self._state)
        for name, spec, layout in self._inputs:
            if name in self._read_often and name not in values.device:
                values.device[name] = self._backend.allocate_buffer(values.host[name], spec=spec)
            arguments[spec.name] = values.for_device(name, layout)
        results = list(self._backend.execute(self._executor, arguments, self.weights).values())
        for (name, _), buffer in zip(self._outputs, results[: len(self._outputs)], strict=True):
            values.device[name] = buffer
            values.host.pop(name, None)
        if self._state:
            self._keep(results[len(self._outputs) :])

    def run_whole(self, inputs: Mapping[str, Any]) -> list[Array]:
        """Run with inputs by name that the caller gave; the outputs as new arrays."""
        arguments = {
            spec.name: value.to_numpy() if isinstance(value, NPUBuffer) else value
            for name, spec, _ in self._inputs
            for value in (inputs[name],)
        }
        results = self._backend.execute(self._executor, arguments, self.weights)
        return [results[spec.name].to_numpy(spec=spec) for _, spec in self._outputs]

    def _keep(self, results: Sequence[NPUBuffer]) -> None:
        """Take the new content of the state, laid out as the program's inputs are."""
        for spec, buffer in zip(self._state_inputs, results, strict=True):
            same = buffer.layout == Layout.of_spec(spec)
            self._state[spec.name] = (
                buffer if same else self._backend.allocate_buffer(buffer.to_numpy(), spec=spec)
            )


class CpuSegment(Segment):
    """A segment that PyTorch runs."""

    def __init__(self, plan: PartitionPlan, partition: Partition) -> None:
        super().__init__(partition)
        self._program = CpuProgram(plan.sub_ir(partition), plan.folder)

    @property
    def stateful(self) -> bool:
        return bool(self.partition.state_names)

    def load_weights(self, weights: Mapping[str, Array], made: Made) -> None:
        self._program.load_weights(weights)

    def run(self, values: Values) -> None:
        inputs = [values.on_host(name) for name in self.partition.input_names]
        results = self._program.run(inputs)
        for name, tensor in zip(self.partition.output_names, results, strict=True):
            values.host[name] = tensor
            values.device.pop(name, None)


def _compile(
    plan: PartitionPlan, partition: Partition, target: TargetConfig, made_on_npu: set[str]
) -> CompiledProgram:
    """The program of a segment; state is updated in its own memory where the compiler can."""
    ir = plan.sub_ir(partition)

    def compiled(donated: Sequence[str]) -> CompiledProgram:
        return compile_graph(
            load_ir_from_dict(ir, plan.folder),
            target=_layout_target(ir, target, made_on_npu),
            compute_dtype=plan.precision.compute_dtype,
            model_dtype=plan.precision.model_dtype,
            donate_inputs=donated,
        )

    if not partition.state_names:
        return compiled(())
    try:
        return compiled(partition.state_names)
    except CompileOptionError:
        # Something reads the old content after the update: a run makes a new copy then.
        return compiled(())


def _layout_target(
    ir: Mapping[str, Any], target: TargetConfig, made_on_npu: set[str]
) -> TargetConfig:
    """The target whose inputs lie as other segments leave them: images of few channels stay in
    planes only where the host gives them.
    """
    limit = target.row_major_input_channels
    narrow = [
        t["name"] for t in ir["graph_inputs"] if len(t["shape"]) == 4 and t["shape"][1] <= limit
    ]
    if narrow and all(name in made_on_npu for name in narrow):
        return replace(target, row_major_input_channels=0)
    return target
