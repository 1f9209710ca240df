"""Differences of neighbours along a dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_compiler.elementwise import Builder
from npu_compiler.elementwise_dispatch import emit_program
from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import axis, integer, require, same_shape
from npu_compiler.ops.record import ALL, OpRecord
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


def _parts(node: Node) -> list[Value]:
    """What is joined before the differences are taken."""
    found = (node.args[name] for name in ("prepend", "self", "append"))
    return [value for value in found if isinstance(value, Value)]


def _check(node: Node) -> str | None:
    x, parts = node.tensor("self"), _parts(node)
    times = integer(node.args["n"], "n")
    require(times >= 1, f"n must be at least 1, got {times}")
    require(x.rank >= 1, "it needs at least one dimension")
    dim = axis(node.args["dim"], x.rank)
    rests = {(*part.shape[:dim], *part.shape[dim + 1 :]) for part in parts}
    require(
        all(part.rank == x.rank for part in parts) and len(rests) == 1,
        f"shapes {[list(part.shape) for part in parts]} differ elsewhere than in dim {dim}",
    )
    dtypes = {value.dtype for value in (*parts, node.output)}
    require(len(dtypes) == 1, f"operands and result must have one dtype, got {sorted(dtypes)}")
    length = max(0, sum(part.shape[dim] for part in parts) - times)
    same_shape(node, (*x.shape[:dim], length, *x.shape[dim + 1 :]))
    return None


def _joined(lowering: Lowering, node: Node, dim: int) -> View:
    parts = [lowering.read(part) for part in _parts(node)]
    if len(parts) == 1:
        return parts[0]
    shape = list(parts[0].shape)
    shape[dim] = sum(part.shape[dim] for part in parts)
    whole, start = lowering.temporary(f"{node.name}.joined", shape, parts[0].dtype), 0
    for part in parts:
        into = whole.slice(dim, start, part.shape[dim])
        lowering.copy(part, into, node, name=f"{node.name}.joined")
        start += part.shape[dim]
    return whole


def _lower(lowering: Lowering, node: Node) -> None:
    times, source = int(node.args["n"]), node.tensor("self")
    dim = axis(node.args["dim"], source.rank)
    out = lowering.define(node.output, image=lowering.is_image(source), strided=True)
    if not node.output.numel:
        return
    x = _joined(lowering, node, dim)
    for left in range(times - 1, -1, -1):
        length = x.shape[dim] - 1
        shape = (*x.shape[:dim], length, *x.shape[dim + 1 :])
        y = lowering.temporary(f"{node.name}.{left}", shape, x.dtype) if left else out
        builder = Builder()
        second = builder.load(x.slice(dim, 1, length))
        first = builder.load(x.slice(dim, 0, length))
        if source.dtype == "bool":
            result = builder.negation(builder(f"eq_{first.type}", second, first))
        else:
            result = builder(f"sub_{first.type}", second, first)
        emit_program(lowering, y, builder, result, node)
        x = y


RECORDS = (
    OpRecord(
        "aten.diff.default",
        "self:T, n=1, dim=-1, prepend:T?, append:T?",
        lower=_lower,
        check=_check,
        dtypes=ALL,
    ),
)
