"""``verify``: the device's run of a model, followed by PyTorch step by step.

Every NPU segment is compiled as always, only that each tensor it has in memory is returned as well.
PyTorch runs beside it twice: once on its own, for the error that has built up so far, and once
going on from the device's tensors, for the error that each step adds. The step whose own error is
too large is the one that is wrong, whatever its neighbours do; where it was fused from several
nodes, these are compiled one by one until the error shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import npu_compiler
from npu_compiler.compiled_program import CompiledProgram
from npu_compiler.errors import CompilerError
from npu_compiler.ir_reader import ir_data
from npu_compiler.names import aliases
from npu_compiler.partitioning.plan import Partition, PartitionPlan
from npu_runtime import Device, Executor, load_weights
from npu_runtime.cpu_fallback import to_array, to_tensor
from npu_runtime.names import pick
from npu_sim.extras import require
from npu_sim.verification.measure import Array, Difference, difference
from npu_sim.verification.report import NodeReport, Report

# (nodes done, nodes in all)
Progress = Callable[[int, int], None]
GETITEM = "<built-in function getitem>"


def verify(
    ir: object,
    state_dict: Mapping[str, Any],
    inputs: Any,
    *,
    device: Device | str | None = None,
    compute_dtype: str | None = None,
    min_sqnr_db: float | None = None,
    progress: Progress | None = None,
) -> Report:
    """Run a model on a device beside PyTorch, node by node.

    Args:
        ir: a path to an IR's JSON, its dict, or an ``IR``.
        state_dict: weights by state_dict key (arrays or tensors).
        inputs: what the model takes: a tensor, a tuple, a dict by name, or its nested structure;
            arrays will do.
        device: a Device or its kind; the fastest there is by default.
        compute_dtype: as of ``npu_compiler.compile``.
        min_sqnr_db: how much noise a step may add, in dB below its result; by default 80 for
            float32, 35 for float16 and 20 for bfloat16.
        progress: called with (nodes done, nodes in all).

    Raises whatever compiling, loading or running raises, and MissingDependencyError without torch.
    """
    require("torch", "verifying a model")
    return _Verification(ir, state_dict, inputs, device, compute_dtype, min_sqnr_db, progress).run()


class _Verification:
    """State of one verification."""

    def __init__(
        self,
        ir: object,
        state_dict: Mapping[str, Any],
        inputs: Any,
        device: Device | str | None,
        compute_dtype: str | None,
        min_sqnr_db: float | None,
        progress: Progress | None,
    ) -> None:
        from npu_sim.verification.reference import Reference, tensors_of
        from torch_ir.serializer import dict_to_ir

        data, folder = ir_data(ir)
        self.plan: PartitionPlan = npu_compiler.partition(ir, compute_dtype=compute_dtype)
        self.weights = tensors_of(state_dict)
        # The plan's IR differs from the model's only in nodes that nothing runs.
        graph = dict_to_ir(data, folder)
        given = _as_tensors(graph, inputs)
        self.total = Reference(graph, self.weights, given)
        self.own = Reference(graph, self.weights, given)
        self.device = device if isinstance(device, Device) else Device(device)
        self.min_sqnr_db = min_sqnr_db
        self.progress = progress
        self.sources = {node.name: node.place for node in graph.nodes}
        self.dtypes = {meta.name: meta.dtype for node in graph.nodes for meta in node.outputs}
        self.dtypes |= {meta.name: meta.dtype for meta in graph.graph_inputs}
        # Tensors that the device has had in memory, by name.
        self.known: dict[str, Array] = {}
        self.report = Report(graph.model_name, self.device.kind, self.plan.precision.compute_dtype)
        self.outputs = [meta.name for meta in graph.graph_outputs]
        self.done = 0
        self.count = sum(len(partition.nodes) for partition in self.plan.partitions)

    def run(self) -> Report:
        """Verify every segment in order."""
        for partition in self.plan.partitions:
            if partition.target == "npu":
                self._npu(partition)
            else:
                self._cpu(partition)
        reports = {node.name: node for node in self.report.nodes}
        self.report.outputs = [reports[name] for name in self.outputs if name in reports]
        return self.report

    def _tick(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.count)

    def _cpu(self, partition: Partition) -> None:
        for node in partition.nodes:
            self.total.run(node["name"])
            self.own.run(node["name"])
            self.report.cpu_nodes.append(node["name"])
            self._tick()

    def _npu(self, partition: Partition) -> None:
        """Run a segment on the device and follow it."""
        found, program = self._execute(partition)
        storage = {spec.name: spec.storage_dtype for spec in program.output_specs}
        pending: dict[str, Mapping[str, Any]] = {}
        for node in partition.nodes:
            name = str(node["name"])
            self.total.run(name)
            pending |= {t["name"]: node for t in node["outputs"]}
            for result in self.own.run(name):
                if result in found:
                    kept, label = found[result]
                    self._compare(result, kept, storage[label], partition, pending)
                    self.known[result] = kept
                    self.own.replace(result, to_tensor(kept, None, result))
            self._tick()

    def _execute(
        self, partition: Partition
    ) -> tuple[dict[str, tuple[Array, str]], CompiledProgram]:
        """What the device has in memory while it runs a segment: tensors by IR name, with the names
        of the outputs that they came through."""
        ir = self.plan.sub_ir(partition)
        names = [t["name"] for node in partition.nodes for t in node["outputs"]]
        arguments = [*partition.input_names, *partition.state_names]
        arrays = [self._array(name) for name in arguments]
        self.known |= dict(zip(arguments, arrays, strict=True))
        plain, _ = self._run_program(ir, arrays, ())
        kept, program = self._run_program(ir, arrays, names)
        results = [*partition.output_names, *partition.state_names]
        found: dict[str, tuple[Array, str]] = {}
        for name, spec in zip(results, program.output_specs, strict=False):
            if kept[spec.name].tobytes() != plain[spec.name].tobytes():
                self.report.unstable.append(name)
            if name in partition.output_names:
                found.setdefault(name, (kept[spec.name], spec.name))
        for label, name in program.kept.items():
            found.setdefault(name, (kept[label], label))
        return found, program

    def _run_program(
        self, ir: Mapping[str, Any], arrays: list[Array], keep: Any
    ) -> tuple[dict[str, Array], CompiledProgram]:
        precision = self.plan.precision
        program = npu_compiler.compile(
            ir,
            compute_dtype=precision.compute_dtype,
            model_dtype=precision.model_dtype,
            keep=keep,
        )
        executor = Executor(program, self.device)
        weights = load_weights(self.weights, program, self.device, strict=False)
        names = [spec.name for spec in program.input_specs]
        results = executor.run(dict(zip(names, arrays, strict=True)), weights)
        found = {spec.name: results[spec.name].to_numpy(spec=spec) for spec in program.output_specs}
        return found, program

    def _array(self, name: str) -> Array:
        """The tensor as the device has it, or as PyTorch made it on the CPU, in the IR's dtype."""
        if name in self.known:
            return self.known[name]
        dtype = self.plan.tensors[name]["dtype"]
        return to_array(to_tensor(self.own[name], dtype, name), name).copy()

    def _compare(
        self,
        name: str,
        actual: Array,
        storage: str,
        partition: Partition,
        pending: Mapping[str, Mapping[str, Any]],
    ) -> None:
        own = difference(actual, to_array(self.own[name], name), storage)
        total = difference(actual, to_array(self.total[name], name), storage)
        nodes = self._fused(name, pending)
        last = nodes[-1]
        diverges = own.exceeds(storage, self.min_sqnr_db)
        wrong_before = any(node.diverges for node in self.report.nodes)
        culprit = None
        if diverges and not wrong_before:
            culprit = self._bisect(partition, nodes)
        self.report.nodes.append(
            NodeReport(
                name=name,
                nodes=tuple(str(node["name"]) for node in nodes),
                op_type=str(last["op_type"]),
                segment=partition.partition_id,
                source=self.sources.get(culprit or str(last["name"]), ""),
                shape=tuple(actual.shape),
                dtype=self.dtypes[name],
                storage=storage,
                total=total,
                own=own,
                diverges=diverges,
                culprit=culprit,
            )
        )

    def _fused(
        self, name: str, pending: Mapping[str, Mapping[str, Any]]
    ) -> list[Mapping[str, Any]]:
        """The nodes behind a tensor, back to those whose results the device has in memory."""
        found: dict[str, Mapping[str, Any]] = {}
        stack = [name]
        while stack:
            node = pending.get(stack.pop())
            if node is None or node["name"] in found:
                continue
            found[str(node["name"])] = node
            stack += [t["name"] for t in node["inputs"] if t["name"] not in self.known]
        order = {str(node["name"]): i for i, node in enumerate(pending.values())}
        return sorted(found.values(), key=lambda node: order[str(node["name"])])

    def _bisect(self, partition: Partition, nodes: list[Mapping[str, Any]]) -> str:
        """The first of fused nodes whose result is wrong when it is compiled with only those before
        it."""
        names = [str(node["name"]) for node in nodes]
        if any(self.own.writes(name) for name in names):
            return names[-1]
        for end in range(1, len(nodes)):
            if nodes[end - 1]["op_type"] != GETITEM and self._is_wrong(partition, nodes[:end]):
                return names[end - 1]
        return names[-1]

    def _is_wrong(self, partition: Partition, nodes: list[Mapping[str, Any]]) -> bool:
        made = {t["name"] for node in nodes for t in node["outputs"]}
        weights = self.plan.original_ir.get("weight_name_mapping", {})
        read = dict.fromkeys(
            t["name"]
            for node in nodes
            for t in node["inputs"]
            if t["name"] not in made and t["name"] not in weights
        )
        result = nodes[-1]["outputs"][0]["name"]
        part = Partition(
            partition.partition_id, "npu", [dict(node) for node in nodes], list(read), [result]
        )
        try:
            arrays = [self._array(name) for name in read]
            found, program = self._run_program(self.plan.sub_ir(part), arrays, ())
        except CompilerError:
            # Alone, these nodes may be none that the NPU runs.
            return False
        spec = program.output_specs[0]
        expected = to_array(self.own[result], result)
        measured: Difference = difference(found[spec.name], expected, spec.storage_dtype)
        return measured.exceeds(spec.storage_dtype, self.min_sqnr_db)


def _as_tensors(graph: Any, inputs: Any) -> Any:
    """The inputs with every array a tensor of the IR's dtype."""
    from torch.utils._pytree import tree_map

    dtypes = {meta.name: meta.dtype for meta in graph.graph_inputs}
    known = aliases("input", list(dtypes))
    if isinstance(inputs, Mapping) and inputs.keys() <= dtypes.keys() | known.keys():
        found = pick(inputs, list(dtypes), known, "input")
        return {
            name: to_tensor(value, dtype, repr(name))
            for (name, dtype), value in zip(dtypes.items(), found, strict=True)
        }
    if hasattr(inputs, "__array__") and len(dtypes) == 1:
        (dtype,) = dtypes.values()
        return to_tensor(inputs, dtype, "input")
    return tree_map(lambda v: to_tensor(v) if hasattr(v, "__array__") else v, inputs)
