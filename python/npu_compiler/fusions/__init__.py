"""Pattern fusions: several nodes that together are one known operator become that operator.

Each module of this package with ``FUSIONS`` contributes its own: a pattern (the expression), and a
rewrite that checks shapes and dtypes and gives the replacing node. Nothing is fused while anybody
else reads a value in the middle of the expression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from npu_compiler.fusions.pattern import Match, Op
from npu_compiler.graph import IRGraph, Node, Value
from npu_compiler.ops import find_op

# The replacing operator and its arguments by name.
Replacement = tuple[str, Mapping[str, Any]]
Rewrite = Callable[[Match, Value], Replacement | None]


@dataclass(frozen=True)
class Fusion:
    """``pattern`` describes a value; ``rewrite(match, value)`` gives what computes it in one node,
    or None where a condition does not hold. ``late``: only after all others, which may fuse more.
    """

    name: str
    pattern: Op
    rewrite: Rewrite
    late: bool = False


@cache
def fusions() -> tuple[Fusion, ...]:
    """Every fusion, by module name and in each module's order."""
    found: list[Fusion] = []
    for info in iter_modules(__path__):
        found += getattr(import_module(f"{__name__}.{info.name}"), "FUSIONS", ())
    return tuple(found)


@cache
def _by_root(late: bool) -> Mapping[str, Sequence[Fusion]]:
    roots: dict[str, list[Fusion]] = {}
    for fusion in fusions():
        if fusion.late != late:
            continue
        for op_type in fusion.pattern.op_types:
            roots.setdefault(op_type, []).append(fusion)
    return roots


def fuse_patterns(graph: IRGraph) -> None:
    """Apply every fusion, in order of the nodes, until none applies to a node any more."""
    for late in (False, True):
        _Fuser(graph).run(_by_root(late))


class _Fuser:
    def __init__(self, graph: IRGraph) -> None:
        self.graph = graph
        self.users = graph.users()
        self.outputs = set(graph.outputs)
        self.gone: set[Node] = set()

    def run(self, roots: Mapping[str, Sequence[Fusion]]) -> None:
        nodes = list(self.graph.nodes)
        for at, node in enumerate(nodes):
            current = node
            while (replaced := self._fuse(current, roots.get(current.op_type, ()))) is not None:
                current = nodes[at] = replaced
        self.graph.nodes = [node for node in nodes if node not in self.gone]

    def _fuse(self, root: Node, candidates: Sequence[Fusion]) -> Node | None:
        if root in self.gone or not root.outputs:
            return None
        for fusion in candidates:
            for match in fusion.pattern.match(root.output, Match()):
                if not self._closed(match, root):
                    continue
                found = fusion.rewrite(match, root.output)
                node = None if found is None else self._replace(match, root, *found)
                if node is not None:
                    return node
        return None

    def _closed(self, match: Match, root: Node) -> bool:
        """Whether nobody else reads what the fused nodes compute on the way."""
        inside = set(match.nodes)
        return len(root.outputs) == 1 and all(
            value not in self.outputs and inside.issuperset(self.users.get(value, ()))
            for node in match.nodes
            if node is not root
            for value in node.outputs
        )

    def _replace(
        self, match: Match, root: Node, op_type: str, args: Mapping[str, Any]
    ) -> Node | None:
        """The new node in the root's place; None where the NPU could not run it."""
        record = find_op(op_type)
        if record is None:
            return None
        defaults = {p.name: p.default for p in record.parameters}
        node = Node(
            root.name,
            op_type,
            {name: args.get(name, default) for name, default in defaults.items()},
            list(root.outputs),
            root.source,
            tuple(o for member in reversed(match.nodes) for o in member.origins),
        )
        # A capture may be a value that would be gone: the norm itself as its own weight.
        gone = set(match.nodes)
        if any(value.producer in gone for value in node.inputs()):
            return None
        if record.reason(node) is not None:
            return None
        node.output.producer = node
        for member in match.nodes:
            for value in member.inputs():
                readers = self.users.get(value, [])
                if member in readers:
                    readers.remove(member)
            if member is not root:
                self.gone.add(member)
        for value in dict.fromkeys(node.inputs()):
            self.users.setdefault(value, []).append(node)
        return node
