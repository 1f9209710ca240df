"""The internal operator that a rotary embedding written out becomes; see fusions/rotary.py.

Both halves of the last dimension are computed in one elementwise dispatch with two results. The
tables have as many elements as what is turned, or the half where both halves are equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_compiler.elementwise import Builder
from npu_compiler.elementwise_dispatch import emit_outputs
from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import require, same_shape
from npu_compiler.ops.record import OpRecord
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

ROTARY = "npu.rotary"


def _check(node: Node) -> str | None:
    x = node.tensor("x")
    require(x.rank >= 1 and x.shape[-1] % 2 == 0, "the last dimension must be even")
    size = x.shape[-1]
    for name in ("cos", "sin"):
        table = node.tensor(name)
        extra = x.rank - table.rank
        require(
            extra >= 0
            and table.rank >= 1
            and table.shape[-1] in (size, size // 2)
            and all(
                n in (1, m)
                for n, m in zip(table.shape[:-1], x.shape[extra : x.rank - 1], strict=True)
            ),
            f"{name} {list(table.shape)} does not broadcast to {list(x.shape)}",
        )
    same_shape(node, x.shape)
    return None


def _lower(lowering: Lowering, node: Node) -> None:
    x = node.tensor("x")
    half = x.shape[-1] // 2

    def halves(view: View) -> tuple[View, View]:
        last = len(view.shape) - 1
        return view.slice(last, 0, half), view.slice(last, half, half)

    def table(value: Value) -> tuple[View, View]:
        if value.is_parameter:
            view = lowering.parameter(value, (), "float32")
        else:
            view = lowering.read(value)
        return (view, view) if view.shape[-1] == half else halves(view)

    low, high = halves(lowering.read(x))
    builder = Builder()
    x1, x2 = builder.load(low), builder.load(high)
    c1, c2 = (builder.load(part) for part in table(node.tensor("cos")))
    s1, s2 = (builder.load(part) for part in table(node.tensor("sin")))
    out = lowering.define(node.output, image=lowering.is_image(x))
    results = (
        builder("sub_f", builder("mul_f", x1, c1), builder("mul_f", x2, s1)),
        builder("add_f", builder("mul_f", x2, c2), builder("mul_f", x1, s2)),
    )
    emit_outputs(lowering, list(zip(halves(out), results, strict=True)), builder, node)


RECORDS = (OpRecord(ROTARY, "x:T, cos:T, sin:T", lower=_lower, check=_check),)
