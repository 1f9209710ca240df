"""What a value is made of by views alone, and whether two values are surely equal."""

from __future__ import annotations

from collections.abc import Collection

from npu_compiler.graph import Node, Value
from npu_compiler.ops import find_op

_LIMIT = 8


def is_view(node: Node) -> bool:
    """Whether the node only shows its first tensor in another way."""
    record = find_op(node.op_type)
    return record is not None and record.view is not None and len(node.outputs) == 1


def source_of(value: Value, op_types: Collection[str]) -> Value | None:
    """What the node of one of ``op_types`` that makes ``value`` reads first; None if none does."""
    node = value.producer
    if node is None or node.op_type not in op_types:
        return None
    return next(node.inputs(), None)


def same_value(a: Value, b: Value) -> bool:
    """Whether both are one value, or the same views of one."""
    for _ in range(_LIMIT):
        if a is b:
            return True
        x, y = a.producer, b.producer
        if x is None or y is None or x.op_type != y.op_type or a.shape != b.shape or not is_view(x):
            return False
        attributes = [
            {k: v for k, v in node.args.items() if not isinstance(v, Value)} for node in (x, y)
        ]
        if attributes[0] != attributes[1]:
            return False
        first = next(x.inputs(), None), next(y.inputs(), None)
        if first[0] is None or first[1] is None:
            return False
        a, b = first[0], first[1]
    return False
