"""Removes nodes that return a tensor unchanged: getitem, dropout in eval mode, contiguous,
same-dtype casts.
"""

from __future__ import annotations

from npu_compiler.errors import IRError
from npu_compiler.graph import GETITEM, IRGraph, Value
from npu_compiler.ops import find_op


def resolve_getitems(graph: IRGraph) -> None:
    """Readers of a getitem read the producer's output that it picks."""
    mapping: dict[Value, Value] = {}
    for node in graph.nodes:
        if node.op_type == GETITEM:
            picked = node.args["self"][node.args["index"]]
            if picked.shape != node.output.shape or picked.dtype != node.output.dtype:
                raise IRError(f"node {node.name!r}: it declares {node.output}, but picks {picked}")
            mapping[node.output] = picked
    graph.nodes = [n for n in graph.nodes if n.op_type != GETITEM]
    graph.replace(mapping)


def eliminate_noops(graph: IRGraph) -> None:
    """Readers of an identity read its input. A cast is one only between equal dtypes."""
    mapping: dict[Value, Value] = {}
    kept = []
    for node in graph.nodes:
        record = find_op(node.op_type)
        identity = record is not None and record.identity is not None and record.identity(node)
        source = next(node.inputs(), None)
        same = (
            identity
            and source is not None
            and len(node.outputs) == 1
            and source.shape == node.output.shape
            and source.dtype == node.output.dtype
            and record is not None
            and record.reason(node) is None
        )
        if same and source is not None:
            mapping[node.output] = source
        else:
            kept.append(node)
    graph.nodes = kept
    graph.replace(mapping)
