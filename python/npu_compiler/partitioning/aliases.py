"""Memory that nodes share: which writes in place forbid to cut a graph where, and which tensors are
state that outlives a run.

A tensor crosses the boundary of a segment by value. That is right unless another name of the same
memory (the base of a view, a view of it, the operand of an in-place operator) is read after a
write: then the write, its views and these readers have to stay in one segment. What reads the
result of the last write may be anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from npu_compiler.graph import GETITEM, IRGraph, Node, Value
from npu_compiler.ops import find_op, functional_name
from npu_compiler.torch_memory import COPIES


@dataclass(slots=True)
class SharedMemory:
    """What one piece of memory asks for: ``together`` lists the nodes (by index) that must share a
    segment, ``order`` pairs that must keep their order. ``placeholders``: the graph inputs, weights
    and constants that the memory belongs to; ``state`` names those whose content outlives the run
    (weights and constants).
    """

    together: list[int]
    order: list[tuple[int, int]]
    placeholders: tuple[Value, ...]
    state: tuple[str, ...]


def writes_of(node: Node) -> list[Value]:
    """The tensors that a node writes to in place, as far as its name says."""
    name, _, overload = node.op_type.rpartition(".")
    if functional_name(node.op_type) is not None or ".__i" in name:
        target = next(iter(node.args.values()), None)
        targets = target if isinstance(target, list) else [target]
        return [value for value in targets if isinstance(value, Value)]
    return list(node.inputs()) if overload == "out" or overload.endswith("_out") else []


def shared_memory(graph: IRGraph) -> list[SharedMemory]:
    """Every piece of memory that is written to in place and known by more than one name."""
    writes = [writes_of(node) for node in graph.nodes]
    for node, targets in zip(graph.nodes, writes, strict=True):
        named = (
            {value.name: value for value in graph.inputs} | graph.weights if node.mutates else {}
        )
        targets += [named[name] for name in node.mutates if name in named]
    if not any(writes):
        return []
    classes = _Classes(graph, writes)
    return [found for root in classes.written() if (found := classes.describe(root)) is not None]


class _Classes:
    """Values by the memory that they may lie in (union-find)."""

    def __init__(self, graph: IRGraph, writes: list[list[Value]]) -> None:
        self.graph = graph
        self.writes = writes
        self.parent: dict[Value, Value] = {}
        self.outputs = set(graph.outputs)
        self.mutated = {name for node in graph.nodes for name in node.mutates}
        # Placeholders with one key (tied weights) are one tensor.
        first: dict[str, Value] = {}
        for value in graph.weights.values():
            self._join(value, first.setdefault(str(value.key), value))
        # Nodes whose results lie in the memory of an operand.
        self.makers: set[int] = set()
        for index, (node, targets) in enumerate(zip(graph.nodes, writes, strict=True)):
            for source in (*self._aliased(node), *targets):
                for output in node.outputs:
                    self._join(output, source)
                    self.makers.add(index)
        self.members: dict[Value, list[Value]] = {}
        for value in list(self.parent):
            self.members.setdefault(self._find(value), []).append(value)
        self.touching: dict[Value, list[int]] = {}
        self.readers: dict[Value, list[int]] = {}
        for index, node in enumerate(graph.nodes):
            for value in (*node.inputs(), *node.outputs):
                if value in self.parent:
                    indices = self.touching.setdefault(self._find(value), [])
                    if not indices or indices[-1] != index:
                        indices.append(index)
            for value in node.inputs():
                self.readers.setdefault(value, []).append(index)
        self.position = {v: i for i, node in enumerate(graph.nodes) for v in node.outputs}

    def _find(self, value: Value) -> Value:
        self.parent.setdefault(value, value)
        while self.parent[value] is not value:
            self.parent[value] = self.parent[self.parent[value]]
            value = self.parent[value]
        return value

    def _join(self, a: Value, b: Value) -> None:
        self.parent[self._find(a)] = self._find(b)

    def _aliased(self, node: Node) -> list[Value]:
        """The operands whose memory the node's results may lie in."""
        if node.op_type == GETITEM:
            return [node.args["self"][node.args["index"]]]
        record = find_op(node.op_type)
        if record is None or node.name in self.graph.unbound:
            # PyTorch alone knows. What it would write to in weights, the IR states.
            known = [v for v in node.inputs() if not v.is_parameter or v.name in self.mutated]
            dtypes = {output.dtype for output in node.outputs}
            return [v for v in known if v.dtype in dtypes]
        if record.view is not None:
            return list(node.inputs())[:1]
        if record.identity is not None and node.op_type not in COPIES:
            return list(node.inputs())[:1] if record.identity(node) else []
        return []

    def written(self) -> list[Value]:
        """Roots of the memory that is written to, in the order of the first writes."""
        return list(dict.fromkeys(self._find(v) for targets in self.writes for v in targets))

    def describe(self, root: Value) -> SharedMemory | None:
        """What the memory of ``root`` asks for; None where it asks for nothing."""
        members = self.members[root]
        placeholders = tuple(v for v in members if v.producer is None)
        state = tuple(sorted(v.name for v in placeholders if v.is_parameter and v in self.readers))
        nodes = self.touching.get(root, [])
        writers = [i for i in nodes if any(self._find(v) is root for v in self.writes[i])]
        order = [(index, writer) for writer in writers for index in nodes if index < writer]
        readers: set[int] = set()
        stale = bool(state)
        for value in members:
            made = self.position.get(value, -1)
            read = self.readers.get(value, [])
            last = len(self.graph.nodes) if value in self.outputs else max(read, default=-1)
            if any(made < writer < last for writer in writers):
                stale = True
                readers.update(read)
                if value in self.outputs and made >= 0:
                    # The caller gets what is there after the write: the segment that computes the
                    # value must be the one that writes to it.
                    readers.add(made)
            elif value.is_parameter:
                readers.update(read)
        together: list[int] = []
        if stale:
            makers = {index for index in nodes if index in self.makers and index < writers[-1]}
            together = sorted({*writers, *makers, *readers})
        return SharedMemory(together, order, placeholders, state) if together or order else None
