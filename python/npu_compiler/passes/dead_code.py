"""Dead code elimination."""

from __future__ import annotations

from npu_compiler.graph import IRGraph, Node, Value


def eliminate_dead_code(graph: IRGraph) -> None:
    """Remove nodes whose outputs nothing reads."""
    live: set[Value] = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(v in live for v in node.outputs):
            live.update(node.inputs())
            kept.append(node)
    graph.nodes = kept[::-1]
