"""Units of a partition (nodes that must stay together) and the segments that units are grouped in.

A unit is a node with the getitems that pick its outputs, or all nodes that touch one piece of
memory that is written to. Units form a directed graph without cycles; a segment is a set of units
of one side that can run back to back.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from npu_compiler.graph import GETITEM, IRGraph
from npu_compiler.partitioning.aliases import SharedMemory


@dataclass(slots=True)
class Units:
    """``nodes``: indices of each unit's nodes, in order; units are numbered by their first node.
    ``unit_of``: the unit of each node, -1 for those left out. ``before``, ``after``: the units that
    must run earlier and later.
    """

    nodes: list[list[int]]
    unit_of: list[int]
    before: list[list[int]]
    after: list[list[int]]

    def __len__(self) -> int:
        return len(self.nodes)


def make_units(graph: IRGraph, kept: Sequence[bool], shared: Iterable[SharedMemory]) -> Units:
    """The units of the nodes that ``kept`` marks."""
    count = len(graph.nodes)
    leader = list(range(count))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    position = {node: index for index, node in enumerate(graph.nodes)}
    edges: set[tuple[int, int]] = set()
    for index, node in enumerate(graph.nodes):
        for value in node.inputs():
            if value.producer is None or not kept[index]:
                continue
            producer = position[value.producer]
            if node.op_type == GETITEM:
                leader[find(index)] = find(producer)
            else:
                edges.add((producer, index))
    for memory in shared:
        nodes = [index for index in memory.together if kept[index]]
        for index in nodes[1:]:
            leader[find(index)] = find(nodes[0])
        edges.update((a, b) for a, b in memory.order if kept[a] and kept[b])
    group = [find(index) if kept[index] else -1 for index in range(count)]
    if any(memory.together for memory in shared):
        group = _merge_cycles(group, edges)
    return _number(group, edges)


def _number(group: Sequence[int], edges: Iterable[tuple[int, int]]) -> Units:
    """Units from the group of each node (-1: none), numbered by their first nodes."""
    number: dict[int, int] = {}
    nodes: list[list[int]] = []
    unit_of = []
    for index, name in enumerate(group):
        if name < 0:
            unit_of.append(-1)
            continue
        unit = number.setdefault(name, len(nodes))
        if unit == len(nodes):
            nodes.append([])
        nodes[unit].append(index)
        unit_of.append(unit)
    pairs = sorted({(unit_of[a], unit_of[b]) for a, b in edges})
    before: list[list[int]] = [[] for _ in nodes]
    after: list[list[int]] = [[] for _ in nodes]
    for a, b in pairs:
        if a != b:
            after[a].append(b)
            before[b].append(a)
    return Units(nodes, unit_of, before, after)


def _merge_cycles(group: Sequence[int], edges: Iterable[tuple[int, int]]) -> list[int]:
    """Groups, merged where they depend on each other in a circle (Tarjan's algorithm): what lies
    on a path between two nodes of a group must be in it.
    """
    after: dict[int, list[int]] = {name: [] for name in group if name >= 0}
    for a, b in sorted(edges):
        if group[a] != group[b]:
            after[group[a]].append(group[b])
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    component: dict[int, int] = {}
    stack: list[int] = []
    for start in after:
        work = [(start, iter(after[start]))] if start not in order else []
        if work:
            order[start] = low[start] = len(order)
            stack.append(start)
        while work:
            at, rest = work[-1]
            following = next(rest, None)
            if following is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[at])
                if low[at] == order[at]:
                    while True:
                        member = stack.pop()
                        component[member] = at
                        if member == at:
                            break
            elif following not in order:
                order[following] = low[following] = len(order)
                stack.append(following)
                work.append((following, iter(after[following])))
            elif following not in component:
                low[at] = min(low[at], order[following])
    return [name if name < 0 else component[name] for name in group]


Segments = list[tuple[bool, list[int]]]


def consecutive(units: Units, on_npu: Sequence[bool]) -> Segments:
    """Runs of units of one side in the order of the IR: (whether on the NPU, its units)."""
    waiting = [len(before) for before in units.before]
    ready = [unit for unit, count in enumerate(waiting) if not count]
    heapq.heapify(ready)
    segments: Segments = []
    while ready:
        unit = heapq.heappop(ready)
        if not segments or segments[-1][0] != on_npu[unit]:
            segments.append((on_npu[unit], []))
        segments[-1][1].append(unit)
        for later in units.after[unit]:
            waiting[later] -= 1
            if not waiting[later]:
                heapq.heappush(ready, later)
    return segments


def regrouped(units: Units, on_npu: Sequence[bool]) -> Segments:
    """As few segments as the sides of the units allow.

    Everything that can run on one side runs before the other side gets its turn; which side begins
    is tried both ways. No order has fewer segments: each turn goes as far as any order could.
    """
    tried = [_alternating(units, on_npu, first) for first in (True, False)]
    return min(tried, key=len)


def _alternating(units: Units, on_npu: Sequence[bool], turn: bool) -> Segments:
    waiting = [len(before) for before in units.before]
    ready: dict[bool, list[int]] = {True: [], False: []}
    for unit, count in enumerate(waiting):
        if not count:
            ready[on_npu[unit]].append(unit)
    segments: Segments = []
    while ready[True] or ready[False]:
        queue = ready[turn]
        heapq.heapify(queue)
        done = []
        while queue:
            unit = heapq.heappop(queue)
            done.append(unit)
            for later in units.after[unit]:
                waiting[later] -= 1
                if not waiting[later]:
                    if on_npu[later] == turn:
                        heapq.heappush(queue, later)
                    else:
                        ready[not turn].append(later)
        if done:
            segments.append((turn, done))
        turn = not turn
    return segments
