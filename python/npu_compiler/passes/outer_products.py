"""Matrix products over one term become elementwise products, which join their neighbours: the
angles of rotary embeddings are often written so, transpose(frequencies [n, 1] @ positions [1, m]).
"""

from __future__ import annotations

from typing import Any

from npu_compiler.fusions.pattern import CASTS
from npu_compiler.graph import IRGraph, Node, Value
from npu_compiler.ops import find_op

_SECOND = {
    "aten.mm.default": "mat2",
    "aten.bmm.default": "mat2",
    "aten.matmul.default": "other",
    "aten.linalg_matmul.default": "other",
}
_MULTIPLY = "aten.mul.Tensor"
_TRANSPOSE = "aten.transpose.int"


def multiply_outer_products(graph: IRGraph) -> None:
    """Rewrite a[..., m, 1] @ b[..., 1, n] as a * b, which broadcasts to the same [..., m, n]; where
    only its transpose is read, that is the product of the transposed a and b.
    """
    users = graph.users()
    outputs = set(graph.outputs)
    nodes: list[Node] = []
    replaced: set[Node] = set()
    for node in graph.nodes:
        if node in replaced:
            continue
        factors = _factors(node)
        if factors is None:
            nodes.append(node)
            continue
        readers = users.get(node.output, [])
        turned = readers[0] if len(readers) == 1 and node.output not in outputs else None
        if turned is not None and _swaps_matrices(turned):
            steps = [_transposed(node, x, f"{node.name}.{i}") for i, x in enumerate(factors)]
            nodes += [*steps[0], *steps[1]]
            factors = (steps[0][-1].output, steps[1][-1].output)
            replaced.add(turned)
            node.outputs = turned.outputs
            node.output.producer, node.output.strides = node, None
            node.origins = (*node.origins, *turned.origins)
        node.op_type, node.args = _MULTIPLY, {"self": factors[0], "other": factors[1]}
        nodes.append(node)
    graph.nodes = nodes


def _factors(node: Node) -> tuple[Value, Value] | None:
    """The column a and the row b of an outer product that multiplication can compute."""
    second = _SECOND.get(node.op_type)
    if second is None:
        return None
    a, b = node.tensor("self"), node.tensor(second)
    if a.rank < 2 or b.rank < 2 or a.shape[-1] != 1:
        return None
    record = find_op(_MULTIPLY)
    product = Node(node.name, _MULTIPLY, {"self": a, "other": b}, node.outputs)
    return (a, b) if record is not None and record.reason(product) is None else None


def _swaps_matrices(node: Node) -> bool:
    if node.op_type != _TRANSPOSE:
        return False
    rank = node.output.rank
    return {node.args[name] % rank for name in ("dim0", "dim1")} == {rank - 2, rank - 1}


def _transposed(origin: Node, factor: Value, name: str) -> list[Node]:
    """The nodes that transpose a factor; its conversion stays next to the product, which may be
    able to do it itself.
    """
    conversion = factor.producer
    converts = conversion is not None and conversion.op_type in CASTS
    value = conversion.tensor("self") if conversion is not None and converts else factor
    steps = [_node(origin, name, _TRANSPOSE, {"self": value, "dim0": -2, "dim1": -1}, value.dtype)]
    if conversion is not None and converts:
        arguments = {**conversion.args, "self": steps[0].output}
        steps.append(_node(origin, f"{name}.to", conversion.op_type, arguments, factor.dtype))
    return steps


def _node(origin: Node, name: str, op_type: str, args: dict[str, Any], dtype: str) -> Node:
    node = Node(name, op_type, args, [], origin.source, origin.origins)
    shape = args["self"].shape
    if op_type == _TRANSPOSE:
        shape = (*shape[:-2], shape[-1], shape[-2])
    node.outputs = [Value(name, shape, dtype, "node", None, node)]
    return node
