"""``masked_scatter``: where a mask is true, the values of another tensor, one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_compiler.elementwise import Builder
from npu_compiler.elementwise_dispatch import emit_program
from npu_compiler.graph import Node
from npu_compiler.index_dispatch import Indexed, emit_gather
from npu_compiler.kernels.scan import SCAN_OPS
from npu_compiler.ops.arguments import require, same_shape
from npu_compiler.ops.index_checks import same_dtypes
from npu_compiler.ops.record import ALL, OpRecord
from npu_compiler.ops.rows import emit_rows
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


def _check(node: Node) -> str | None:
    x, mask, source = (node.tensor(name) for name in ("self", "mask", "source"))
    require(mask.dtype == "bool", f"the mask must be bool, got {mask.dtype}")
    same_dtypes(x, source, node.output)
    same_shape(node, x.shape)
    tail = x.shape[x.rank - mask.rank :] if mask.rank <= x.rank else ()
    require(
        mask.rank <= x.rank and all(m in (1, n) for m, n in zip(mask.shape, tail, strict=True)),
        f"the mask {list(mask.shape)} does not broadcast to {list(x.shape)}",
    )
    require(source.numel >= 1 or x.numel == 0, "the source has no values")
    return None


def _flat(lowering: Lowering, node: Node, view: View) -> View:
    return lowering.contiguous(view, node).reshape((view.numel,)) or view


def _lower(lowering: Lowering, node: Node) -> None:
    """Count the true places so far, fetch the value of each, and choose."""
    value = node.tensor("self")
    x = lowering.read(value)
    out = lowering.define(node.output, image=lowering.is_image(value), strided=True)
    if not x.numel:
        return
    mask = lowering.read(node.tensor("mask")).expand(x.shape)
    flat = _flat(lowering, node, mask)
    count = lowering.temporary(f"{node.name}.count", flat.shape, "int64")
    fields = {"op": SCAN_OPS["sum"]}
    emit_rows(lowering, node, "scan", fields, [0], {"x": flat}, {"y": count, "index": None})
    b = Builder()
    # What is not chosen reads the first value.
    place = b("select_l", b.load(flat), b("sub_l", b.load(count), 1), 0)
    index = lowering.temporary(f"{node.name}.place", flat.shape, "int64")
    emit_program(lowering, index, b, place, node)
    source = _flat(lowering, node, lowering.read(node.tensor("source")))
    found = lowering.temporary(f"{node.name}.found", flat.shape, x.dtype)
    emit_gather(lowering, node, Indexed.of(source, 0, flat.shape), index, found, wrap=False)
    b = Builder()
    chosen = b.load(found.reshape(x.shape) or found)
    other = b.load(x)
    result = b(f"select_{other.type}", b.load(mask), chosen, other)
    emit_program(lowering, out, b, result, node)


RECORDS = (
    OpRecord(
        "aten.masked_scatter.default",
        "self:T, mask:T, source:T",
        lower=_lower,
        check=_check,
        dtypes=ALL,
    ),
)
