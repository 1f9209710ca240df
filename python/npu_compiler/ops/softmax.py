"""Softmax and log-softmax over one dimension."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from npu_compiler.graph import Node
from npu_compiler.ops.arguments import axis, same_shape
from npu_compiler.ops.record import OpRecord
from npu_compiler.view import View, merge_axes

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


def _check_softmax(node: Node) -> str | None:
    x = node.tensor("self")
    same_shape(node, x.shape)
    axis(node.args["dim"], x.rank)
    return None


def _rows(x: View, y: View, rest: list[int], dim: int) -> tuple[View, View] | None:
    """Both views as (a, b, c, k) with k = ``dim`` and the rest merged as strides allow."""
    for at in range(len(rest) + 1):
        for to in range(at, len(rest) + 1):
            merged = merge_axes([x, y], [rest[:at], rest[at:to], rest[to:], [dim]])
            if merged is not None:
                return merged[0], merged[1]
    return None


def _softmax(log: int) -> Callable[[Lowering, Node], None]:
    def lower(lowering: Lowering, node: Node) -> None:
        x = lowering.read(node.tensor("self"))
        if x.dtype != lowering.precision.storage(node.output.dtype):
            x = lowering.contiguous(x, node, lowering.precision.storage(node.output.dtype))
        y = lowering.define(node.output, image=lowering.is_image(node.tensor("self")))
        if not x.shape:
            x, whole = x.insert(0), y.insert(0)
        else:
            whole = y
        dim = axis(node.args["dim"], len(x.shape))
        rest = [d for d in range(len(x.shape)) if d != dim]
        rows = _rows(x, whole, rest, dim)
        if rows is None:
            order = [*rest, dim]
            x = lowering.contiguous(x.permute(order), node)
            into = lowering.temporary(f"{node.name}.rows", x.shape, x.dtype)
            last = len(rest)
            rows = _rows(x, into, list(range(last)), last) or (x, into)
            lowering.dispatch("softmax", node, {"log": log}, dict(zip("xy", rows, strict=True)))
            back = into.permute([order.index(d) for d in range(len(order))])
            lowering.copy(back, whole, node, name=f"{node.name}.copy")
            return
        lowering.dispatch("softmax", node, {"log": log}, dict(zip("xy", rows, strict=True)))
        if y.pad is not None:
            lowering.zero_padding(y, node, f"{'+'.join(node.origins)}.padding")

    return lower


def _record(op_type: str, signature: str, log: int) -> OpRecord:
    return OpRecord(op_type, signature, lower=_softmax(log), check=_check_softmax)


RECORDS = (
    _record("aten.softmax.int", "self:T, dim, dtype=None", 0),
    _record("aten.log_softmax.int", "self:T, dim, dtype=None", 1),
    _record("aten._softmax.default", "self:T, dim, half_to_float", 0),
    _record("aten._log_softmax.default", "self:T, dim, half_to_float", 1),
)
