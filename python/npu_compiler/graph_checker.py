"""Invariants of an IRGraph, checked after every pass when NPU_COMPILER_CHECK=1."""

from __future__ import annotations

import os

from npu_compiler.errors import GraphCheckError
from npu_compiler.graph import IRGraph, Node, Value


def checking() -> bool:
    """Whether the environment asks for checks."""
    return os.environ.get("NPU_COMPILER_CHECK", "0") not in ("", "0")


def check_graph(graph: IRGraph, after: str) -> None:
    """Raise GraphCheckError, naming the pass ``after`` which it was found, for the first broken
    invariant:

    every value is defined before it is read, once; names are unique; producers and indices are
    right; fused epilogues have fitting shapes; parameters are known to the graph.
    """

    def fail(message: str) -> None:
        raise GraphCheckError(f"after {after}: {message}")

    defined: set[Value] = set(graph.inputs) | set(graph.weights.values())
    names: set[str] = set()
    for value in graph.inputs:
        if value.kind != "input" or value.producer is not None:
            fail(f"{value.name!r} is a graph input, but its kind is {value.kind}")
    for node in graph.nodes:
        if node.name in names:
            fail(f"two nodes are named {node.name!r}")
        names.add(node.name)
        for value in node.inputs():
            if value not in defined:
                fail(f"node {node.name!r} reads {value.name!r} before it is defined")
        for index, value in enumerate(node.outputs):
            if value in defined:
                fail(f"{value.name!r} is defined twice")
            if value.producer is not node or value.index != index or value.kind != "node":
                fail(f"{value.name!r} does not know that {node.name!r} produces it")
            defined.add(value)
        problem = _epilogue_problem(node)
        if problem:
            fail(f"node {node.name!r}: {problem}")
    for value in graph.outputs:
        if value not in defined:
            fail(f"the graph's output {value.name!r} is not defined")
    if len(graph.outputs) != len(graph.output_names):
        fail(f"{len(graph.outputs)} outputs have {len(graph.output_names)} names")


def _epilogue_problem(node: Node) -> str | None:
    residual = node.epilogue.residual
    if residual is not None and residual.shape != node.output.shape:
        return f"residual {list(residual.shape)} does not fit result {list(node.output.shape)}"
    batch_norm = node.epilogue.batch_norm
    if batch_norm is not None and any(
        v.shape != (node.output.shape[1],) for v in batch_norm.parameters
    ):
        return "the folded BatchNorm has another number of channels"
    return None
