"""Division, its roundings and its remainders, of floats and of integers.

Where PyTorch raises because an integer's divisor is 0, the quotient is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from npu_compiler.ops.arguments import require
from npu_compiler.ops.pointwise import NUMBERS, Args, binary, pointwise, rounded
from npu_compiler.ops.record import OpRecord

if TYPE_CHECKING:
    from npu_compiler.elementwise import Builder, Register

_MODES = (None, "trunc", "floor")


def _div_mode(b: Builder, a: Args) -> Register:
    x, y = a["self"], a["other"]
    mode = a["rounding_mode"]
    if mode is None:
        return b("div_f", x, y)
    if b.is_integral(x, y):
        return b(f"div_{mode}", x, y)
    return b("trunc_f", b("div_f", x, y)) if mode == "trunc" else b("div_floor_f", x, y)


def _floor_divide(b: Builder, a: Args) -> Register:
    return b("div_floor", a["self"], a["other"])


def _remainder(b: Builder, a: Args) -> Register:
    """With the divisor's sign."""
    x, y = a["self"], a["other"]
    if b.is_integral(x, y):
        return b("sub", x, b("mul", b("div_floor", x, y), y))
    return b("remainder_f", x, rounded(b, y))


def _fmod(b: Builder, a: Args) -> Register:
    """With the dividend's sign."""
    x, y = a["self"], a["other"]
    if b.is_integral(x, y):
        return b("sub", x, b("mul", b("div_trunc", x, y), y))
    return b("fmod_f", x, rounded(b, y))


def _check_mode(args: Args) -> str | None:
    mode = args["rounding_mode"]
    require(mode in _MODES, f"rounding_mode must be one of {_MODES}, got {mode!r}")
    return None


def _true_division(args: Args) -> bool:
    return args["rounding_mode"] is None


def _mode(op_type: str, signature: str) -> OpRecord:
    return pointwise(
        op_type, signature, _div_mode, to_float=_true_division, check_attrs=_check_mode
    )


def _integral(op_type: str, signature: str, emit: Any) -> OpRecord:
    return pointwise(op_type, signature, emit, computes=NUMBERS)


_BINARY = "self:T, other:T"
_SCALAR = "self:T, other"
RECORDS = (
    pointwise("aten.div.Tensor", _BINARY, binary("div_f"), to_float=True),
    pointwise("aten.div.Scalar", _SCALAR, binary("div_f"), to_float=True),
    pointwise("aten.true_divide.Tensor", _BINARY, binary("div_f"), to_float=True),
    pointwise("aten.true_divide.Scalar", _SCALAR, binary("div_f"), to_float=True),
    _mode("aten.div.Tensor_mode", "self:T, other:T, rounding_mode"),
    _mode("aten.div.Scalar_mode", "self:T, other, rounding_mode"),
    _integral("aten.floor_divide.default", _BINARY, _floor_divide),
    _integral("aten.floor_divide.Scalar", _SCALAR, _floor_divide),
    _integral("aten.remainder.Tensor", _BINARY, _remainder),
    _integral("aten.remainder.Scalar", _SCALAR, _remainder),
    _integral("aten.remainder.Scalar_Tensor", _BINARY, _remainder),
    _integral("aten.fmod.Tensor", _BINARY, _fmod),
    _integral("aten.fmod.Scalar", _SCALAR, _fmod),
)
