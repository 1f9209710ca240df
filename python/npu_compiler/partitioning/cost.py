"""The cost model of a partition, and the assignment of units to sides that makes a run cheap.

    cost = sum over segments   of segment_seconds(side)
         + sum over nodes      of node_seconds(side) + bytes / bandwidth(side) + flops / rate(side)
         + sum over transfers  of transfer_seconds + bytes / transfer_bandwidth

A tensor is transferred once, however many segments of the other side read it; graph inputs start
on the CPU and graph outputs end there. ``docs/partitioning.md`` tells how the figures were chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

from npu_compiler.graph import GETITEM, IRGraph, Node, Value
from npu_compiler.ops import find_op
from npu_compiler.partitioning.order import Segments, Units, consecutive, regrouped
from npu_compiler.partitioning.plan import tensor_bytes

_ROUNDS = 8


@dataclass(frozen=True)
class CostModel:
    """Times in seconds, bandwidths in bytes per second, rates in operations per second."""

    transfer_seconds: float = 10e-6
    transfer_bandwidth: float = 8e9
    npu_segment_seconds: float = 30e-6
    cpu_segment_seconds: float = 60e-6
    npu_node_seconds: float = 2e-6
    cpu_node_seconds: float = 8e-6
    npu_bandwidth: float = 100e9
    cpu_bandwidth: float = 10e9
    npu_flops: float = 4e12
    cpu_flops: float = 1e11

    def node(self, node: Node, on_npu: bool) -> float:
        """Seconds that a node takes on one side. On the NPU, what only names memory is free."""
        record = find_op(node.op_type)
        names = record is not None and (record.view is not None or record.identity is not None)
        if node.op_type == GETITEM or (on_npu and names):
            return 0.0
        per_node, bandwidth, rate = (
            (self.npu_node_seconds, self.npu_bandwidth, self.npu_flops)
            if on_npu
            else (self.cpu_node_seconds, self.cpu_bandwidth, self.cpu_flops)
        )
        if names:
            return per_node
        moved = sum(value_bytes(v) for v in (*node.inputs(), *node.outputs))
        return per_node + moved / bandwidth + _flops(node) / rate

    def transfer(self, value: Value) -> float:
        """Seconds that it takes to bring a tensor to the other side."""
        return self.transfer_seconds + value_bytes(value) / self.transfer_bandwidth


def value_bytes(value: Value) -> int:
    """Bytes of a tensor in its IR dtype, without padding."""
    return tensor_bytes(value.shape, value.dtype)


def _flops(node: Node) -> float:
    """Roughly the operations of a matrix product or convolution: 2 * results * length of the sums.

    The length follows from the sizes: (m, k) and (k, n) give (m, n), so k = sqrt(mk * kn / mn).
    """
    record = find_op(node.op_type)
    operands = [v.numel for v in node.inputs()]
    if record is None or record.epilogue is None or len(operands) < 2 or not node.outputs:
        return 0.0
    results = node.outputs[0].numel
    a, b = sorted(operands)[-2:]
    return 2.0 * results * sqrt(a * b / results) if results else 0.0


class Assignment:
    """Which side each unit runs on, and what that costs; units are moved while it pays."""

    def __init__(
        self,
        graph: IRGraph,
        units: Units,
        may_run_on_npu: Sequence[bool],
        model: CostModel,
    ) -> None:
        self.units = units
        self.model = model
        self.may = list(may_run_on_npu)
        self.on_npu = list(may_run_on_npu)
        self.work = [
            tuple(sum(model.node(graph.nodes[i], side) for i in nodes) for side in (False, True))
            for nodes in units.nodes
        ]
        position = {node: index for index, node in enumerate(graph.nodes)}
        readers: dict[Value, set[int]] = {}
        for node, unit in zip(graph.nodes, units.unit_of, strict=True):
            for value in node.inputs() if unit >= 0 else ():
                if not value.is_parameter:
                    readers.setdefault(value, set()).add(unit)
        outputs = set(graph.outputs)
        # Per tensor that leaves its unit: (producing unit or -1, readers, is output, seconds).
        self.tensors: list[tuple[int, list[int], bool, float]] = []
        self.touching: list[list[int]] = [[] for _ in units.nodes]
        for value in dict.fromkeys((*readers, *graph.outputs)):
            if value.is_parameter:
                continue
            made = -1 if value.producer is None else units.unit_of[position[value.producer]]
            others = sorted(readers.get(value, set()) - {made})
            if not others and (made < 0 or value not in outputs):
                continue
            for unit in (*others, *([made] if made >= 0 else [])):
                self.touching[unit].append(len(self.tensors))
            self.tensors.append((made, others, value in outputs, model.transfer(value)))

    def _transfer(self, index: int) -> float:
        made, readers, is_output, seconds = self.tensors[index]
        here = made >= 0 and self.on_npu[made]
        crosses = any(self.on_npu[r] != here for r in readers) or (here and is_output)
        return seconds if crosses else 0.0

    def _local(self, units: Iterable[int]) -> float:
        """Seconds of the work of ``units`` and of all transfers that depend on where they are."""
        units = list(units)
        work = sum(self.work[u][self.on_npu[u]] for u in units)
        touched = {t for u in units for t in self.touching[u]}
        return work + sum(self._transfer(t) for t in sorted(touched))

    def _gain(self, units: Sequence[int]) -> float:
        """Seconds that moving all of ``units`` to the other side saves, segments aside."""
        before = self._local(units)
        self._flip(units)
        after = self._local(units)
        self._flip(units)
        return before - after

    def _flip(self, units: Iterable[int]) -> None:
        for unit in units:
            self.on_npu[unit] = not self.on_npu[unit]

    def cost(self, segments: Segments) -> float:
        """Seconds of a run with these segments."""
        work = sum(self.work[u][self.on_npu[u]] for u in range(len(self.units)))
        transfers = sum(self._transfer(t) for t in range(len(self.tensors)))
        return work + transfers + sum(self._segment(on_npu) for on_npu, _ in segments)

    def _segment(self, on_npu: bool) -> float:
        model = self.model
        return model.npu_segment_seconds if on_npu else model.cpu_segment_seconds

    def consecutive(self) -> tuple[Segments, float]:
        """The segments of the IR's own order, and their cost."""
        segments = consecutive(self.units, self.on_npu)
        return segments, self.cost(segments)

    def improve(self) -> tuple[Segments, float]:
        """Segments after moving islands and boundary units while that pays; never worse than
        ``consecutive``.
        """
        best = self.consecutive()
        if all(self.may):
            return best
        best = self._better(best)
        for _ in range(_ROUNDS):
            moved = self._move_islands(regrouped(self.units, self.on_npu))
            best = self._better(best)
            if not moved:
                break
        self._move_boundary()
        best = self._better(best)
        for unit, on_npu in enumerate(self.on_npu):
            self.on_npu[unit] = False if on_npu else self.on_npu[unit]
        return self._better(best)

    def _better(self, best: tuple[Segments, float]) -> tuple[Segments, float]:
        segments = regrouped(self.units, self.on_npu)
        cost = self.cost(segments)
        return (segments, cost) if cost < best[1] else best

    def _move_islands(self, segments: Segments) -> bool:
        """Move to the CPU the connected parts of NPU segments that cost more there."""
        moved = False
        for index, (on_npu, members) in enumerate(segments):
            if not on_npu:
                continue
            islands = self._islands(members)
            for island in islands:
                gain = self._gain(island)
                if len(islands) == 1:
                    gain += self.model.npu_segment_seconds
                    # The CPU segments around it become one.
                    inner = 0 < index < len(segments) - 1
                    gain += self.model.cpu_segment_seconds if inner else 0.0
                if gain > 0:
                    self._flip(island)
                    moved = True
        return moved

    def _islands(self, members: Sequence[int]) -> list[list[int]]:
        """The parts of a segment that no tensor connects."""
        inside = set(members)
        islands = []
        for start in members:
            if start not in inside:
                continue
            inside.remove(start)
            island, at = [start], 0
            while at < len(island):
                for near in (*self.units.before[island[at]], *self.units.after[island[at]]):
                    if near in inside:
                        inside.remove(near)
                        island.append(near)
                at += 1
            islands.append(sorted(island))
        return islands

    def _move_boundary(self) -> None:
        """Move single units across the boundary, forwards and backwards, while that pays."""
        count = len(self.units)
        for order in (range(count), range(count - 1, -1, -1)):
            for unit in order:
                near = (*self.units.before[unit], *self.units.after[unit])
                across = any(self.on_npu[u] != self.on_npu[unit] for u in near)
                if across and self.may[unit] and self._gain([unit]) > 0:
                    self._flip([unit])
