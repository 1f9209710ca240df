"""Tables of cosines and sines for rotary embeddings: both halves of their last dimension are equal
(cat((f, f))), so one half is computed, stored and read. The angles f are a product of positions
and frequencies, which converts the positions itself.
"""

from __future__ import annotations

from npu_compiler.elementwise_program import is_elementwise
from npu_compiler.fusions.pattern import CASTS
from npu_compiler.graph import IRGraph, Node, Value
from npu_compiler.ops import find_op
from npu_compiler.ops.index_checks import INDEX_DTYPES
from npu_compiler.ops.rotary import ROTARY

_CAT = "aten.cat.default"
_UNSQUEEZE = "aten.unsqueeze.default"


def halve_rotary_tables(graph: IRGraph) -> None:
    """Compute the half of every such table where nothing but rotary embeddings reads what follows
    from it: functions of single elements and added dimensions.
    """
    users = graph.users()
    outputs = set(graph.outputs)
    mapping: dict[Value, Value] = {}
    gone: set[Node] = set()
    for node in graph.nodes:
        half = _repeated(node)
        if half is None or node.output in outputs:
            continue
        table = _table(node.output, users, outputs)
        if table is None:
            continue
        for value in table:
            value.shape = (*value.shape[:-1], half.shape[-1])
        mapping[node.output] = half
        gone.add(node)
        if half.producer is not None:
            _read_integers(half.producer)
    graph.nodes = [node for node in graph.nodes if node not in gone]
    graph.replace(mapping)


def _read_integers(product: Node) -> None:
    """Let a float32 product read integers instead of their conversion, which it does alike."""
    if product.op_type != "aten.mul.Tensor" or product.output.dtype != "float32":
        return
    for name, other in (("self", "other"), ("other", "self")):
        factor, second = product.args[name], product.args[other]
        cast = factor.producer if isinstance(factor, Value) else None
        if cast is None or cast.op_type not in CASTS or not isinstance(second, Value):
            continue
        integers = cast.tensor("self")
        if integers.dtype not in INDEX_DTYPES or factor.dtype != second.dtype:
            continue
        product.args[name] = integers
        record = find_op(product.op_type)
        if record is None or record.reason(product) is not None:
            product.args[name] = factor


def _repeated(node: Node) -> Value | None:
    """f for cat((f, f)) along the last dimension."""
    if node.op_type != _CAT or node.args["dim"] not in (-1, node.output.rank - 1):
        return None
    parts = node.args["tensors"]
    twice = len(parts) == 2 and isinstance(parts[0], Value) and parts[0] is parts[1]
    return parts[0] if twice else None


def _table(value: Value, users: dict[Value, list[Node]], outputs: set[Value]) -> list[Value] | None:
    """All values that follow from ``value`` on the way to rotary embeddings; None where something
    else is there.
    """
    found: list[Value] = []
    pending = [value]
    while pending:
        current = pending.pop()
        for user in users.get(current, ()):
            if user.op_type == ROTARY:
                if user.args["x"] is current:
                    return None
                continue
            if not _keeps_halves(user, current):
                return None
            if user.output in outputs:
                return None
            found.append(user.output)
            pending.append(user.output)
    return found


def _keeps_halves(node: Node, table: Value) -> bool:
    """Whether the node's result has two equal halves, since its one tensor has them."""
    if sum(value is table for value in node.inputs()) != len(list(node.inputs())):
        return False
    if node.op_type == _UNSQUEEZE:
        return node.output.shape[-1:] == table.shape[-1:] and node.args["dim"] not in (
            -1,
            table.rank,
        )
    return is_elementwise(node) and node.output.shape == table.shape
