"""Elementwise functions of two and three tensors beyond arithmetic."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from npu_compiler.ops.pointwise import NUMBERS, Args, Formula, binary, pointwise
from npu_compiler.ops.record import FLOATS, OpRecord

if TYPE_CHECKING:
    from npu_compiler.elementwise import Builder, Register


def _extreme(op: str) -> Formula:
    """Maximum or minimum; a NaN gives way to a number."""

    def emit(b: Builder, a: Args) -> Register:
        x, y = a["self"], a["other"]
        if x.type != "f":
            return b(op, x, y)
        number = b("select_f", b("eq_f", y, y), b(f"{op}_f", x, y), x)
        return b("select_f", b("eq_f", x, x), number, y)

    return emit


def _heaviside(b: Builder, a: Args) -> Register:
    x = a["self"]
    step = b("select", b("lt", 0, x), b.constant(1, x.type), 0)
    result = b("select", b("eq", x, 0), a["values"], step)
    return result if x.type != "f" else b("select_f", b("eq_f", x, x), result, 0.0)


def _xlogy(log: str) -> Formula:
    """``x log y``: 0 where ``x`` is, unless ``y`` is NaN."""

    def emit(b: Builder, a: Args) -> Register:
        x, y = b.convert(a["self"], "f"), b.convert(a["other"], "f")
        product = b("select_f", b("eq_f", x, 0.0), 0.0, b("mul_f", x, b(log, y)))
        return b("select_f", b("eq_f", y, y), product, y)

    return emit


def _logaddexp2(b: Builder, a: Args) -> Register:
    x, y = a["self"], a["other"]
    gap = b("exp2_f", b("neg_f", b("abs_f", b("sub_f", x, y))))
    total = b("add_f", b("max_f", x, y), b("mul_f", b("log1p_f", gap), 1.4426950408889634))
    same = b("mul_i", b("eq_f", x, y), b("eq_f", b("abs_f", x), inf))
    return b("select_f", same, x, total)


def _isclose(b: Builder, a: Args) -> Register:
    """Within the tolerances, or equal; NaNs are equal where asked."""
    x, y = a["self"], a["other"]
    equal = b("eq", x, y)
    x, y = b.convert(x, "f"), b.convert(y, "f")
    room = b("add_f", b("mul_f", b("abs_f", y), a["rtol"]), a["atol"])
    gap = b("abs_f", b("sub_f", x, y))
    close = b("mul_i", b("le_f", gap, room), b("lt_f", gap, inf))
    result = b("max_i", equal, close)
    if not a["equal_nan"]:
        return result
    both = b("mul_i", b.negation(b("eq_f", x, x)), b.negation(b("eq_f", y, y)))
    return b("max_i", result, both)


def _lerp(b: Builder, a: Args) -> Register:
    """From the nearer end, as PyTorch does, so that weights 0 and 1 give the ends exactly."""
    start, end, weight = a["self"], a["end"], a["weight"]
    gap = b("sub_f", end, start)
    from_start = b("add_f", start, b("mul_f", weight, gap))
    from_end = b("sub_f", end, b("mul_f", gap, b("sub_f", 1.0, weight)))
    return b("select_f", b("lt_f", b("abs_f", weight), 0.5), from_start, from_end)


def _addcmul(b: Builder, a: Args) -> Register:
    product = b("mul", a["tensor1"], a["tensor2"])
    return b("add", a["self"], product if a["value"] == 1 else b("mul", product, a["value"]))


def _addcdiv(b: Builder, a: Args) -> Register:
    scaled = a["tensor1"] if a["value"] == 1 else b("mul_f", a["tensor1"], a["value"])
    return b("add_f", a["self"], b("div_f", scaled, a["tensor2"]))


def _both(op_type: str, op: str, *, to_float: bool, computes: frozenset[str] = FLOATS) -> OpRecord:
    return pointwise(
        op_type, "self:T, other:T", binary(f"{op}_f"), to_float=to_float, computes=computes
    )


_BINARY = "self:T, other:T"
_TERNARY = "self:T, tensor1:T, tensor2:T, value=1"
_CLOSE = "self:T, other:T, rtol=1e-5, atol=1e-8, equal_nan=False"
RECORDS = (
    _both("aten.atan2.default", "atan2", to_float=True),
    _both("aten.arctan2.default", "atan2", to_float=True),
    _both("aten.copysign.Tensor", "copysign", to_float=True),
    pointwise("aten.copysign.Scalar", "self:T, other", binary("copysign_f"), to_float=True),
    _both("aten.hypot.default", "hypot", to_float=False),
    _both("aten.logaddexp.default", "logaddexp", to_float=False),
    pointwise("aten.logaddexp2.default", _BINARY, _logaddexp2, computes=FLOATS),
    *(
        pointwise(
            f"aten.pow.{kind}",
            "self:T, exponent:T",
            lambda b, a: b("pow", a["self"], a["exponent"]),
            promotes=("self", "exponent"),
            computes=NUMBERS,
        )
        for kind in ("Tensor_Tensor", "Scalar")
    ),
    pointwise("aten.fmax.default", _BINARY, _extreme("max")),
    pointwise("aten.fmin.default", _BINARY, _extreme("min")),
    pointwise(
        "aten.heaviside.default", "self:T, values:T", _heaviside, promotes=("self", "values")
    ),
    *(
        pointwise(op_type, signature, _xlogy("log_f"), to_float=True)
        for op_type, signature in (
            ("aten.xlogy.Tensor", _BINARY),
            ("aten.xlogy.Scalar_Self", _BINARY),
            ("aten.xlogy.Scalar_Other", "self:T, other"),
            ("aten.special_xlogy.default", _BINARY),
        )
    ),
    pointwise("aten.special_xlog1py.default", _BINARY, _xlogy("log1p_f"), to_float=True),
    pointwise("aten.isclose.default", _CLOSE, _isclose, result="bool"),
    *(
        pointwise(
            f"aten.lerp.{kind}",
            signature,
            _lerp,
            promotes=("self", "end", "weight"),
            computes=FLOATS,
        )
        for kind, signature in (
            ("Tensor", "self:T, end:T, weight:T"),
            ("Scalar", "self:T, end:T, weight"),
        )
    ),
    pointwise("aten.addcmul.default", _TERNARY, _addcmul, promotes=("self", "tensor1", "tensor2")),
    pointwise(
        "aten.addcdiv.default",
        _TERNARY,
        _addcdiv,
        promotes=("self", "tensor1", "tensor2"),
        computes=FLOATS,
    ),
)
