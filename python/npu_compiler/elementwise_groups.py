"""Fuses elementwise nodes into groups that become one dispatch each.

A node joins the groups of its producers, or of nodes that read the same tensor, where all have its
shape. A value that is also read elsewhere stays in the group and is stored as one more output.
Small operands (one element) are computed where they are needed. Nothing between two members may
depend on one and be needed by the other: the group would have to run before and after it.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from npu_compiler.elementwise import ProgramTooLargeError
from npu_compiler.elementwise_group import Group, lower_elementwise
from npu_compiler.elementwise_program import build_program, is_elementwise
from npu_compiler.graph import IRGraph, Node, Value
from npu_compiler.kernels.scalar_ops import MAX_INPUTS, MAX_OUTPUTS, MAX_REGISTERS
from npu_compiler.reduction_groups import ReductionGroup, lower_reduction, with_reductions

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

__all__ = ["Group", "elementwise_groups", "is_elementwise", "lower_group"]

# How many nodes a search for a path around a group visits; beyond, the group is left as it is.
_SEARCH_LIMIT = 64
# Nodes of a group: what bounds the time to check one.
_MAX_NODES = 32


class _Grouping:
    def __init__(self, graph: IRGraph) -> None:
        self.graph = graph
        self.users = graph.users()
        self.graph_outputs = set(graph.outputs)
        self.position = {node: at for at, node in enumerate(graph.nodes)}
        self.group_of: dict[Node, Group] = {}
        self.steps: dict[Node, int] = {}
        self.counts: dict[tuple[object, ...], int] = {}
        # The group that read a value last.
        self.reader: dict[Value, Group] = {}

    def run(self) -> list[Group]:
        for node in self.graph.nodes:
            if is_elementwise(node):
                self._place(node)
        return list(dict.fromkeys(self.group_of.values()))

    def _place(self, node: Node) -> None:
        self.steps[node] = self._step_count(node)
        group = Group([node])
        self.group_of[node] = group
        for other in self._neighbours(node):
            if other is not group:
                group = self._merged(other, group) or group
        for value in node.inputs():
            self.reader[value] = group

    def _step_count(self, node: Node) -> int:
        """At most how many steps the node adds to a program; found once for all that are alike."""
        kinds = [
            (arg.dtype, arg.rank == 0) if isinstance(arg, Value) else repr(arg)
            for arg in node.args.values()
        ]
        key = (node.op_type, node.output.dtype, *kinds)
        loads = sum(isinstance(arg, Value) for arg in node.args.values())
        if key not in self.counts:
            steps = build_program([node]).builder.steps
            self.counts[key] = sum(step.op != "load" for step in steps)
        return self.counts[key] + loads

    def _neighbours(self, node: Node) -> list[Group]:
        """Groups that the node might join: its producers', then those that read what it reads."""
        values = [v for v in dict.fromkeys(node.inputs()) if not v.is_parameter]
        found = []
        for value in values:
            producer = value.producer
            if producer is not None and producer in self.group_of:
                own = self.group_of[producer]
                if value.shape == node.output.shape or self._is_private_number(own, node):
                    found.append(own)
        for value in values:
            sibling = self.reader.get(value)
            if sibling is not None and value.shape == node.output.shape:
                found.append(sibling)
        return [self.group_of[g.last] for g in dict.fromkeys(found)]

    def _is_private_number(self, group: Group, reader: Node) -> bool:
        """The group computes one element that only ``reader`` needs."""
        return all(v.numel == 1 for v in (n.output for n in group.nodes)) and all(
            user is reader or self.group_of.get(user) is group
            for n in group.nodes
            for user in self._users(n.output)
        )

    def _users(self, value: Value) -> list[Node]:
        return self.users.get(value, [])

    def _merged(self, first: Group, second: Group) -> Group | None:
        """The two groups as one, where it is legal and fits the kernel."""
        first = self.group_of[first.last]
        if first is second or len(first.nodes) + len(second.nodes) > _MAX_NODES:
            return None
        shape = second.last.output.shape
        nodes = sorted({*first.nodes, *second.nodes}, key=self.position.__getitem__)
        group = Group(nodes)
        group.outputs = self._outputs(nodes)
        if any(v.shape != shape for v in group.outputs) or not self._fits(group):
            return None
        if self._has_path_around(set(nodes)):
            return None
        for node in nodes:
            self.group_of[node] = group
        return group

    def _outputs(self, nodes: list[Node]) -> list[Value]:
        own = set(nodes)
        return [
            node.output
            for node in nodes
            if node.output in self.graph_outputs
            or not self._users(node.output)
            or any(user not in own for user in self._users(node.output))
        ]

    def _fits(self, group: Group) -> bool:
        made = {node.output for node in group.nodes}
        inputs = {v for node in group.nodes for v in node.inputs()} - made
        if len(group.outputs) > MAX_OUTPUTS or len(inputs) > MAX_INPUTS:
            return False
        if sum(self.steps[node] for node in group.nodes) < MAX_REGISTERS:
            return True
        program = build_program(group.nodes)
        try:
            program.builder.encode(*(program.results[v] for v in group.outputs))
        except ProgramTooLargeError:
            return False
        return True

    def _has_path_around(self, members: set[Node]) -> bool:
        """Whether a member depends on another by way of nodes outside (or there are too many to
        tell); a node outside drags along the group that it is in.
        """
        newest = max(self.position[node] for node in members)
        seen: set[Node] = set()
        queue = deque(members)
        while queue:
            node = queue.popleft()
            for output in node.outputs:
                for user in self._users(output):
                    if user in members:
                        if node not in members:
                            return True
                        continue
                    if user in seen or self.position[user] > newest:
                        continue
                    group = self.group_of.get(user)
                    reached = [user] if group is None else group.nodes
                    seen.update(reached)
                    queue.extend(reached)
                    if len(seen) > _SEARCH_LIMIT:
                        return True
        return False


def elementwise_groups(graph: IRGraph, fuse: bool = True) -> dict[Node, Group]:
    """The group of every elementwise node, by its last node; other elementwise nodes are inside
    of some group (without ``fuse`` each is alone), and so are reductions that take groups into
    their dispatch. Reorders the graph's nodes so that those of a group are neighbours.
    """
    if fuse:
        grouping = _Grouping(graph)
        groups = grouping.run()
    else:
        groups = [Group([node]) for node in graph.nodes if is_elementwise(node)]
    for group in groups:
        if not group.outputs:
            group.outputs = [group.last.output]
    if fuse:
        groups = with_reductions(graph, groups, grouping.users)
    _reorder(graph, groups)
    return {group.last: group for group in groups}


def _reorder(graph: IRGraph, groups: list[Group]) -> None:
    """Sort the nodes topologically with groups as one node each, otherwise in the order of last
    nodes.
    """
    unit = {node: group.last for group in groups for node in group.nodes}
    members = {group.last: group.nodes for group in groups}
    position = {node: at for at, node in enumerate(graph.nodes)}
    needs: dict[Node, set[Node]] = {}
    readers: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        own = unit.get(node, node)
        before = needs.setdefault(own, set())
        for value in node.inputs():
            if value.producer is None or value.producer not in position:
                continue
            source = unit.get(value.producer, value.producer)
            if source is not own and source not in before:
                before.add(source)
                readers.setdefault(source, []).append(own)
    ready = [position[node] for node, before in needs.items() if not before]
    heapify(ready)
    order: list[Node] = []
    original = graph.nodes
    while ready:
        node = original[heappop(ready)]
        order += members.get(node, [node])
        for reader in readers.get(node, []):
            needs[reader].discard(node)
            if not needs[reader]:
                heappush(ready, position[reader])
    graph.nodes = order


def lower_group(lowering: Lowering, group: Group) -> None:
    """One dispatch (and perhaps fills of the padding) for the group."""
    if isinstance(group, ReductionGroup):
        lower_reduction(lowering, group)
    else:
        lower_elementwise(lowering, group)
