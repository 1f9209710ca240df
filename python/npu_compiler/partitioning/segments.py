"""From units to segments: what each segment reads and hands on, and what is transferred between
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from npu_compiler.constraints import Violation, check_constraints
from npu_compiler.errors import CompilerError
from npu_compiler.graph import GETITEM, IRGraph, Value
from npu_compiler.ir_reader import load_ir_from_dict
from npu_compiler.partitioning.aliases import shared_memory
from npu_compiler.partitioning.cost import value_bytes
from npu_compiler.partitioning.order import Segments, make_units
from npu_compiler.partitioning.plan import Partition, PartitionPlan, TransferOp
from npu_compiler.passes import canonicalize


class Segmenter:
    """The units of a graph (``kept`` marks its live nodes), and segments made of them."""

    def __init__(
        self, graph: IRGraph, data: Mapping[str, Any], folder: Path | None, kept: Sequence[bool]
    ) -> None:
        self.graph = graph
        self.nodes = canonical_nodes(graph, data)
        self.ir = {**data, "nodes": self.nodes}
        self.folder = folder
        self.shared = shared_memory(graph)
        self.units = make_units(graph, kept, self.shared)
        self._outputs = set(graph.outputs)
        self._readers: dict[Value, list[int]] = {}
        for index, node in enumerate(graph.nodes):
            for value in node.inputs() if kept[index] else ():
                self._readers.setdefault(value, []).append(index)
        # The state that the nodes of a unit write to, and the graph inputs that they change.
        self._state: dict[int, set[str]] = {}
        self._changed: dict[int, list[Value]] = {}
        for memory in self.shared:
            nodes = [index for index in memory.together if kept[index]]
            if not nodes:
                continue
            unit = self.units.unit_of[nodes[0]]
            self._state.setdefault(unit, set()).update(memory.state)
            self._changed.setdefault(unit, []).extend(
                v for v in memory.placeholders if v in self._outputs
            )
        self._whole = PartitionPlan([], self.ir, folder=folder)

    def indices(self, units: Iterable[int]) -> list[int]:
        """The nodes of units, in the IR's order."""
        return sorted(index for unit in units for index in self.units.nodes[unit])

    def may_run_on_npu(self, members: Sequence[int], violations: dict[int, Violation]) -> bool:
        """Whether all nodes of a unit may run on the NPU; where not, each gets a reason."""
        if len(members) > 1 and not any(index in violations for index in members):
            self._check_writes(members, violations)
        culprit = next((violations[index] for index in members if index in violations), None)
        if culprit is None:
            return True
        for index in members:
            node = self.graph.nodes[index]
            if node.op_type == GETITEM and node.args["self"][0].producer.name == culprit.node:
                reason = f"it picks a result of node {culprit.node!r}, which runs on the CPU"
            else:
                reason = (
                    f"it shares memory that is written to in place with node {culprit.node!r}, "
                    "which runs on the CPU"
                )
            violations.setdefault(index, Violation(node.name, node.op_type, reason, node.source))
        return False

    def _check_writes(self, members: Sequence[int], violations: dict[int, Violation]) -> None:
        """Ask the compiler what it makes of writes through views: that is only known afterwards."""
        unit = self.units.unit_of[members[0]]
        if unit not in self._state:
            return
        state = sorted(self._state[unit])
        if len(state) > 1 and len({self.graph.weights[name].key for name in state}) < len(state):
            found, reason = "", f"it writes to one weight under the names {', '.join(state)}"
        else:
            alone = self._partition(0, True, [unit])
            try:
                graph = load_ir_from_dict(self._whole.sub_ir(alone), self.folder)
                first = next(iter(check_constraints(canonicalize(graph))), None)
            except CompilerError as error:
                first = Violation("", "", str(error))
            if first is None:
                return
            found, reason = first.node.partition(".")[0], first.reason
        names = {self.graph.nodes[index].name: index for index in members}
        index = names.get(found, members[0])
        node = self.graph.nodes[index]
        violations[index] = Violation(node.name, node.op_type, reason, node.source)

    def _partition(self, number: int, on_npu: bool, units: Iterable[int]) -> Partition:
        indices = self.indices(units)
        inside = set(indices)
        state = sorted(set().union(*(self._state.get(unit, set()) for unit in units)))
        made: set[Value] = set()
        inputs: dict[str, None] = {}
        outputs: list[str] = [value.name for unit in units for value in self._changed.get(unit, ())]
        for index in indices:
            node = self.graph.nodes[index]
            for value in node.inputs():
                if value not in made and not value.is_parameter:
                    inputs[value.name] = None
            made.update(node.outputs)
            for value in node.outputs:
                read = any(r not in inside for r in self._readers.get(value, ()))
                if read or value in self._outputs:
                    outputs.append(value.name)
        return Partition(
            number,
            "npu" if on_npu else "cpu",
            [self.nodes[index] for index in indices],
            list(inputs),
            list(dict.fromkeys(outputs)),
            tuple(state),
        )

    def steps(self, segments: Segments) -> list[Partition | TransferOp]:
        """The segments with the transfers that they need."""
        values = {value.name: value for node in self.graph.nodes for value in node.outputs}
        places: dict[str, set[str]] = {}
        steps: list[Partition | TransferOp] = []
        for number, (on_npu, units) in enumerate(segments):
            found = self._partition(number, on_npu, units)
            # What is not here yet was made on the other side; the caller's inputs go anywhere.
            missing = [
                name
                for name in found.input_names
                if name in places and found.target not in places[name]
            ]
            if missing:
                size = sum(value_bytes(values[name]) for name in missing)
                steps.append(TransferOp(missing, "to_npu" if on_npu else "to_cpu", size))
                for name in missing:
                    places[name].add(found.target)
            steps.append(found)
            places.update((name, {found.target}) for name in found.output_names if name in values)
        return steps


def canonical_nodes(graph: IRGraph, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The IR's nodes, every field there and operands under the names that their producers give."""
    outputs = {node.name: node.outputs for node in graph.nodes}
    known = {value.name for value in (*graph.inputs, *graph.weights.values())}
    known.update(value.name for values in outputs.values() for value in values)

    def named(tensor: dict[str, Any]) -> dict[str, Any]:
        if tensor["name"] in known:
            return tensor
        made = outputs[tensor["producer_node"]][tensor.get("producer_output_idx", 0)]
        return {**tensor, "name": made.name}

    found = []
    for raw in data["nodes"]:
        inputs = raw.get("inputs", [])
        complete = "inputs" in raw and "outputs" in raw and "attrs" in raw
        if complete and all(tensor["name"] in known for tensor in inputs):
            found.append(raw)
            continue
        rest = {"outputs": raw.get("outputs", []), "attrs": raw.get("attrs", {})}
        found.append({**raw, **rest, "inputs": [named(tensor) for tensor in inputs]})
    return found
