"""Running sums, products and extremes along one dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_compiler.graph import Node
from npu_compiler.kernels.scan import SCAN_OPS
from npu_compiler.ops.arguments import axis, require, same_shape
from npu_compiler.ops.record import ALL, FLOATS, INTEGERS_AND_BOOL, OpRecord
from npu_compiler.ops.rows import emit_rows, narrowed, with_axis, zero_paddings

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

_OPS = {
    "aten.cumsum.default": "sum",
    "aten.cumprod.default": "prod",
    "aten.cummax.default": "max",
    "aten.cummin.default": "min",
    "aten.logcumsumexp.default": "logsumexp",
}


def _check(node: Node) -> str | None:
    x, op = node.tensor("self"), _OPS[node.op_type]
    axis(node.args["dim"], x.rank)
    for index in range(len(node.outputs)):
        same_shape(node, x.shape, index)
    out = node.output.dtype
    if op in ("max", "min"):
        require(out == x.dtype, f"the result must be {x.dtype}, the IR declares {out}")
        require(node.outputs[1].dtype == "int64", f"indices are int64, not {node.outputs[1].dtype}")
    elif x.dtype in INTEGERS_AND_BOOL:
        require(op != "logsumexp", f"it can compute {', '.join(sorted(FLOATS))}, not {x.dtype}")
        # Sums that wrap in fewer bits have the same low bits.
        require(out != "bool", "a running sum or product cannot be bool")
    else:
        require(out in FLOATS, f"it cannot accumulate {x.dtype} as {out}; cast first")
    return None


def _lower(lowering: Lowering, node: Node) -> None:
    source = node.tensor("self")
    x = narrowed(lowering, node, lowering.read(source), node.output)
    image = lowering.is_image(source)
    outs = [lowering.define(value, image=image) for value in node.outputs]
    dim = axis(node.args["dim"], len(x.shape))
    writes = {"y": with_axis(outs[0]), "index": with_axis(outs[1]) if len(outs) > 1 else None}
    fields = {"op": SCAN_OPS[_OPS[node.op_type]]}
    emit_rows(lowering, node, "scan", fields, [dim], {"x": with_axis(x)}, writes)
    zero_paddings(lowering, node, *outs)


_SIGNATURES = {"sum": "self:T, dim, dtype=None", "prod": "self:T, dim, dtype=None"}
RECORDS = tuple(
    OpRecord(
        op_type,
        _SIGNATURES.get(op, "self:T, dim"),
        lower=_lower,
        check=_check,
        dtypes=FLOATS if op == "logsumexp" else ALL,
    )
    for op_type, op in _OPS.items()
)
