"""Elementwise arithmetic with PyTorch's type promotion: floats in float32, integers exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from npu_compiler.ops.arguments import number
from npu_compiler.ops.pointwise import NUMBERS, Args, binary, pointwise, unary

if TYPE_CHECKING:
    from npu_compiler.elementwise import Builder, Register


def _scaled(b: Builder, value: Any, alpha: float) -> Any:
    if alpha == 1:
        return value
    return value * alpha if isinstance(value, (int, float)) else b("mul", value, alpha)


def _add(b: Builder, a: Args) -> Register:
    return b("add", a["self"], _scaled(b, a["other"], a.get("alpha", 1)))


def _sub(b: Builder, a: Args) -> Register:
    return b("sub", a["self"], _scaled(b, a["other"], a.get("alpha", 1)))


def _rsub(b: Builder, a: Args) -> Register:
    return b("sub", a["other"], _scaled(b, a["self"], a.get("alpha", 1)))


def negative(b: Builder, x: Register) -> Register:
    """``-x``; the most negative integer stays as it is."""
    return b("neg_f", x) if x.type == "f" else b("sub", 0, x)


def _abs(b: Builder, a: Args) -> Register:
    x = a["self"]
    return b("abs_f", x) if x.type == "f" else b("max", x, negative(b, x))


def _sign(b: Builder, a: Args) -> Register:
    """1, 0 or -1; 0 for NaN, as PyTorch's."""
    return b("sub_i", b("lt", 0, a["self"]), b("lt", a["self"], 0))


def _pow_number(b: Builder, a: Args) -> Register:
    """Small exponents by multiplications and roots."""
    x, exponent = a["self"], a["exponent"]
    match abs(exponent):
        case 0:
            return b.constant(1, x.type)
        case 0.5:
            result = b("sqrt_f", x)
        case 1:
            result = x
        case 2:
            result = b("mul", x, x)
        case 3:
            result = b("mul", b("mul", x, x), x)
        case 4:
            square = b("mul", x, x)
            result = b("mul", square, square)
        case _:
            return b("pow", x, exponent)
    return result if exponent > 0 else b("div_f", 1.0, result)


def _check_alpha(args: Args) -> str | None:
    number(args.get("alpha", 1), "alpha")
    return None


def _check_exponent(args: Args) -> str | None:
    number(args["exponent"], "exponent")
    return None


_BINARY = "self:T, other:T"
_ALPHA = "self:T, other:T, alpha=1"
_SCALAR_ALPHA = "self:T, other, alpha=1"
RECORDS = (
    pointwise("aten.add.Tensor", _ALPHA, _add, check_attrs=_check_alpha),
    pointwise("aten.add.Scalar", _SCALAR_ALPHA, _add, check_attrs=_check_alpha),
    pointwise("aten.sub.Tensor", _ALPHA, _sub, computes=NUMBERS, check_attrs=_check_alpha),
    pointwise("aten.sub.Scalar", _SCALAR_ALPHA, _sub, computes=NUMBERS, check_attrs=_check_alpha),
    pointwise("aten.rsub.Tensor", _ALPHA, _rsub, computes=NUMBERS, check_attrs=_check_alpha),
    pointwise("aten.rsub.Scalar", _SCALAR_ALPHA, _rsub, computes=NUMBERS, check_attrs=_check_alpha),
    pointwise("aten.mul.Tensor", _BINARY, binary("mul")),
    pointwise("aten.mul.Scalar", "self:T, other", binary("mul")),
    *(
        pointwise(op_type, _BINARY, binary(op_type.split(".")[1][:3]))
        for op_type in (
            "aten.maximum.default",
            "aten.minimum.default",
            "aten.max.other",
            "aten.min.other",
        )
    ),
    pointwise("aten.neg.default", "self:T", lambda b, a: negative(b, a["self"]), computes=NUMBERS),
    pointwise("aten.abs.default", "self:T", _abs, computes=NUMBERS),
    pointwise("aten.sign.default", "self:T", _sign),
    pointwise("aten.sgn.default", "self:T", _sign),
    pointwise("aten.square.default", "self:T", lambda b, a: b("mul", a["self"], a["self"])),
    pointwise("aten.exp.default", "self:T", unary("exp_f"), to_float=True),
    pointwise("aten.log.default", "self:T", unary("log_f"), to_float=True),
    pointwise("aten.sqrt.default", "self:T", unary("sqrt_f"), to_float=True),
    pointwise("aten.rsqrt.default", "self:T", unary("rsqrt_f"), to_float=True),
    pointwise("aten.erf.default", "self:T", unary("erf_f"), to_float=True),
    pointwise(
        "aten.reciprocal.default", "self:T", lambda b, a: b("div_f", 1.0, a["self"]), to_float=True
    ),
    pointwise(
        "aten.pow.Tensor_Scalar",
        "self:T, exponent",
        _pow_number,
        promotes=("self", "exponent"),
        computes=NUMBERS,
        check_attrs=_check_exponent,
    ),
    # Results of the dtype of ``self``, whatever the other operand's is.
    pointwise(
        "aten.copy.default",
        "self:T, src:T, non_blocking=False",
        lambda b, a: a["src"],
        promotes=("self",),
    ),
    pointwise("aten.fill.Scalar", "self:T, value", lambda b, a: a["value"], promotes=("self",)),
    pointwise("aten.fill.Tensor", "self:T, value:T", lambda b, a: a["value"], promotes=("self",)),
    pointwise("aten.zero.default", "self:T", lambda b, a: b.constant(0, "i")),
)
