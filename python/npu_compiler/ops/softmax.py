"""Softmax and log-softmax over one dimension, perhaps scaled and masked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import axis, number, require, same_shape
from npu_compiler.ops.record import ALL, FLOATS, OpRecord
from npu_compiler.ops.rows import emit_rows, with_axis, zero_paddings

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

# What the pattern of a scaled and masked softmax becomes.
MASKED_SOFTMAX = "npu.masked_softmax.default"


def _check(node: Node) -> str | None:
    x = node.tensor("self")
    same_shape(node, x.shape)
    axis(node.args["dim"], x.rank)
    for value in (x, node.output):
        require(value.dtype in FLOATS, f"{value.name!r} must be floating, it is {value.dtype}")
    return None


def _check_masked(node: Node) -> str | None:
    number(node.args["scale"], "scale")
    x, mask = node.tensor("self"), node.args["mask"]
    if isinstance(mask, Value):
        tail = x.shape[x.rank - mask.rank :] if mask.rank <= x.rank else ()
        require(
            mask.rank <= x.rank and all(m in (1, n) for m, n in zip(mask.shape, tail, strict=True)),
            f"the mask {list(mask.shape)} does not broadcast to {list(x.shape)}",
        )
        require(
            mask.dtype in FLOATS | {"bool"},
            f"the mask must be bool or floating, it is {mask.dtype}",
        )
    return _check(node)


def _emit(lowering: Lowering, node: Node, kernel: str, fields: dict[str, Any]) -> None:
    source = node.tensor("self")
    x = lowering.read(source)
    dtype = lowering.precision.storage(node.output.dtype)
    if x.dtype != dtype:
        x = lowering.contiguous(x, node, dtype)
    y = lowering.define(node.output, image=lowering.is_image(source))
    reads = {"x": with_axis(x)}
    mask = node.args.get("mask")
    if isinstance(mask, Value):
        reads["mask"] = lowering.read(mask).expand(x.shape)
    dim = axis(node.args["dim"], len(x.shape))
    emit_rows(lowering, node, kernel, fields, [dim], reads, {"y": with_axis(y)})
    zero_paddings(lowering, node, y)


def _softmax(log: int) -> Callable[[Lowering, Node], None]:
    return lambda lowering, node: _emit(lowering, node, "softmax", {"log": log})


def _safe_softmax(lowering: Lowering, node: Node) -> None:
    _emit(lowering, node, "masked_softmax", {"scale": 1.0, "safe": 1})


def _masked_softmax(lowering: Lowering, node: Node) -> None:
    fields = {"scale": float(node.args["scale"]), "safe": int(bool(node.args["safe"]))}
    _emit(lowering, node, "masked_softmax", fields)


def _record(op_type: str, signature: str, log: int) -> OpRecord:
    return OpRecord(op_type, signature, lower=_softmax(log), check=_check)


RECORDS = (
    _record("aten.softmax.int", "self:T, dim, dtype=None", 0),
    _record("aten.log_softmax.int", "self:T, dim, dtype=None", 1),
    _record("aten._softmax.default", "self:T, dim, half_to_float", 0),
    _record("aten._log_softmax.default", "self:T, dim, half_to_float", 1),
    OpRecord(
        "aten._safe_softmax.default", "self:T, dim, dtype=None", lower=_safe_softmax, check=_check
    ),
    OpRecord(
        MASKED_SOFTMAX,
        "self:T, mask:T?, dim, scale=1.0, safe=False",
        lower=_masked_softmax,
        check=_check_masked,
        dtypes=ALL,
    ),
)
