"""Arithmetic of indices and positions that models repeat in every layer: adding zero goes, and what
is computed alike is computed once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from npu_compiler.graph import IRGraph, Node, Value
from npu_compiler.ops.index_checks import INDEX_DTYPES
from npu_compiler.passes.same_values import is_view

_SUMS = frozenset({"aten.add.Tensor", "aten.sub.Tensor"})
_ONCE = frozenset({*_SUMS, "aten.mul.Tensor", "aten._to_copy.default", "aten.to.dtype"})
_RESHAPE = "aten.reshape.default"
# Bytes of a constant up to which it is compared with others.
_SMALL = 65536


def simplify_index_arithmetic(graph: IRGraph) -> None:
    """Simplify nodes whose result is int64 or int32; see the module's text."""
    mapping: dict[Value, Value] = {}
    seen: dict[tuple[Any, ...], Value] = {}
    kept = []
    for node in graph.nodes:
        if len(node.outputs) != 1 or node.output.dtype not in INDEX_DTYPES:
            kept.append(node)
            continue
        node.replace_inputs(mapping)
        term = _without_zero(graph, node)
        if term is not None and term.shape == node.output.shape:
            mapping[node.output] = term
            continue
        if term is not None:
            node.op_type, node.args = _RESHAPE, {"self": term, "shape": list(node.output.shape)}
        key = _key(graph, node)
        if key is not None and key in seen:
            mapping[node.output] = seen[key]
            continue
        if key is not None:
            seen[key] = node.output
        kept.append(node)
    graph.nodes = kept
    graph.replace(mapping)


def _without_zero(graph: IRGraph, node: Node) -> Value | None:
    """x for x + 0, x - 0 and 0 + x where x has as many elements as the sum, and its dtype."""
    if node.op_type not in _SUMS:
        return None
    left, right = node.args["self"], node.args["other"]
    candidates = [(left, right)]
    if node.op_type == "aten.add.Tensor" and node.args.get("alpha", 1) == 1:
        candidates.append((right, left))
    for x, zero in candidates:
        if (
            isinstance(x, Value)
            and x.dtype == node.output.dtype
            and x.numel == node.output.numel
            and _is_zero(graph, zero)
        ):
            return x
    return None


def _is_zero(graph: IRGraph, argument: object) -> bool:
    if isinstance(argument, Value):
        return (
            argument.kind == "constant"
            and argument.dtype in INDEX_DTYPES
            and not np.any(graph.constants[str(argument.key)])
        )
    return isinstance(argument, int) and argument == 0


def _key(graph: IRGraph, node: Node) -> tuple[Any, ...] | None:
    """What two nodes have in common that compute the same; None where that is not known."""
    if node.op_type not in _ONCE and not is_view(node):
        return None
    if any(isinstance(x, Value) for v in node.args.values() if isinstance(v, list) for x in v):
        return None
    output = node.output
    arguments = tuple(
        (name, _identity(graph, value) if isinstance(value, Value) else repr(value))
        for name, value in sorted(node.args.items())
    )
    return (node.op_type, arguments, output.shape, output.dtype, output.strides)


def _identity(graph: IRGraph, value: Value) -> object:
    """What tells a value from others; small constants are what they hold."""
    if value.kind != "constant" or value.dtype not in INDEX_DTYPES:
        return id(value)
    array = graph.constants[str(value.key)]
    return (value.dtype, value.shape, array.tobytes()) if array.nbytes <= _SMALL else id(value)
