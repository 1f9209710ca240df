"""Splits operators that return views of several tensors into one view node per tensor, so that
writes in place find out what shares memory.
"""

from __future__ import annotations

from npu_compiler.graph import IRGraph, Node, Value
from npu_compiler.ops import find_op

_SPLIT = frozenset(
    {"aten.broadcast_tensors.default", "aten.meshgrid.default", "aten.meshgrid.indexing"}
)


def split_broadcasts(graph: IRGraph) -> None:
    """``broadcast_tensors`` and ``meshgrid`` become an expand for each of their results,
    but for those that are an operand unchanged.
    """
    nodes: list[Node] = []
    same: dict[Value, Value] = {}
    for node in graph.nodes:
        record = find_op(node.op_type)
        if node.op_type not in _SPLIT or record is None or record.reason(node) is not None:
            nodes.append(node)
            continue
        for index, (tensor, output) in enumerate(
            zip(node.args["tensors"], node.outputs, strict=True)
        ):
            if tensor.shape == output.shape and tensor.dtype == output.dtype:
                same[output] = tensor
                continue
            name = f"{node.name}.{index}"
            if "meshgrid" in node.op_type:
                dim = 1 - index if _swaps(node) and index < 2 else index
                shape = tuple(tensor.numel if d == dim else 1 for d in range(output.rank))
                step = _node(node, f"{name}.view", "aten.view.default", tensor, size=list(shape))
                tensor = Value(step.name, shape, tensor.dtype, "node", None, step)
                step.outputs = [tensor]
                nodes.append(step)
            expand = _node(
                node, name, "aten.expand.default", tensor, size=list(output.shape), implicit=False
            )
            output.producer, output.index = expand, 0
            expand.outputs = [output]
            nodes.append(expand)
    graph.nodes = nodes
    graph.replace(same)


def _swaps(node: Node) -> bool:
    return node.args.get("indexing", "ij") == "xy" and len(node.outputs) > 1


def _node(origin: Node, name: str, op_type: str, tensor: Value, **args: object) -> Node:
    return Node(name, op_type, {"self": tensor, **args}, [], origin.source, origin.origins)
