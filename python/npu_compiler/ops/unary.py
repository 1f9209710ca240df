"""Elementwise functions of one tensor beyond arithmetic: roundings, exponentials, trigonometry,
tests for NaN and infinities.
"""

from __future__ import annotations

from math import inf, pi
from typing import TYPE_CHECKING

from npu_compiler.dtypes import LARGEST
from npu_compiler.elementwise import to_float32
from npu_compiler.ops.arguments import number, require
from npu_compiler.ops.pointwise import NUMBERS, Args, Formula, pointwise, unary
from npu_compiler.ops.record import FLOATS, OpRecord

if TYPE_CHECKING:
    from npu_compiler.elementwise import Builder, Register

# Names of functions that are one scalar op; integers and bools become floats first.
_FUNCTIONS = (
    *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"),
    *("exp2", "expm1", "log2", "log10", "log1p", "erfc"),
)
_ALIASES = {
    **{f"arc{name}": f"a{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "special_erf": "erf",
    "special_erfc": "erfc",
    "special_exp2": "exp2",
    "special_expm1": "expm1",
    "special_expit": "sigmoid",
    "special_log1p": "log1p",
}
_ROUNDINGS = ("ceil", "floor", "trunc", "round")


def _rounding(op: str) -> Formula:
    """Integers are as they are."""
    return lambda b, a: b(f"{op}_f", a["self"]) if a["self"].type == "f" else a["self"]


def _frac(b: Builder, a: Args) -> Register:
    return b("sub_f", a["self"], b("trunc_f", a["self"]))


def _isnan(b: Builder, a: Args) -> Register:
    return b.negation(b("eq_f", a["self"], a["self"]))


def _isinf(b: Builder, a: Args) -> Register:
    return b("eq_f", b("abs_f", a["self"]), inf)


def _isfinite(b: Builder, a: Args) -> Register:
    return b("lt_f", b("abs_f", a["self"]), inf)


def _is_infinite(sign: float) -> Formula:
    return lambda b, a: b("eq_f", a["self"], sign * inf)


def _signbit(b: Builder, a: Args) -> Register:
    x = a["self"]
    return b("lt", b("copysign_f", 1.0, x) if x.type == "f" else x, 0)


def _nan_to_num(b: Builder, a: Args) -> Register:
    x: Register = a["self"]
    if x.type != "f":
        return x
    largest = LARGEST[b.dtype]
    high = largest if a["posinf"] is None else a["posinf"]
    low = -largest if a["neginf"] is None else a["neginf"]
    nan = 0.0 if a["nan"] is None else a["nan"]
    finite = b("select_f", b("eq_f", x, inf), high, x)
    finite = b("select_f", b("eq_f", x, -inf), low, finite)
    return b("select_f", b("eq_f", x, x), finite, nan)


def _logit(b: Builder, a: Args) -> Register:
    x, eps = a["self"], a["eps"]
    if eps is not None:
        x = b("min_f", b("max_f", x, to_float32(eps)), 1.0 - eps)
    return b("log_f", b("div_f", x, b("sub_f", 1.0, x)))


def _sinc(b: Builder, a: Args) -> Register:
    angle = b("mul_f", a["self"], pi)
    return b("select_f", b("eq_f", angle, 0.0), 1.0, b("div_f", b("sin_f", angle), angle))


def _times(factor: float) -> Formula:
    return lambda b, a: b("mul_f", a["self"], factor)


def _check_decimals(args: Args) -> str | None:
    decimals = number(args["decimals"], "decimals")
    require(decimals == 0, f"rounding to {decimals} decimals is not supported, only to integers")
    return None


def _function(name: str, op: str) -> OpRecord:
    return pointwise(f"aten.{name}.default", "self:T", unary(f"{op}_f"), to_float=True)


def _test(name: str, emit: Formula, *, to_float: bool = True) -> OpRecord:
    return pointwise(f"aten.{name}.default", "self:T", emit, to_float=to_float, result="bool")


RECORDS = (
    *(_function(name, name) for name in _FUNCTIONS),
    *(_function(name, op) for name, op in _ALIASES.items()),
    *(
        pointwise(f"aten.{name}.default", "self:T", _rounding(op), computes=NUMBERS)
        for name, op in (*((op, op) for op in _ROUNDINGS), ("fix", "trunc"))
    ),
    *(
        pointwise(
            op_type,
            "self:T, decimals=0",
            _rounding("round"),
            computes=NUMBERS,
            check_attrs=_check_decimals,
        )
        for op_type in ("aten.round.decimals", "aten.special_round.default")
    ),
    pointwise("aten.frac.default", "self:T", _frac, computes=FLOATS),
    _test("isnan", _isnan),
    _test("isinf", _isinf),
    _test("isfinite", _isfinite),
    _test("isposinf", _is_infinite(1.0)),
    _test("isneginf", _is_infinite(-1.0)),
    _test("signbit", _signbit, to_float=False),
    pointwise("aten.nan_to_num.default", "self:T, nan=None, posinf=None, neginf=None", _nan_to_num),
    pointwise("aten.sinc.default", "self:T", _sinc, to_float=True),
    pointwise("aten.deg2rad.default", "self:T", _times(pi / 180), to_float=True),
    pointwise("aten.rad2deg.default", "self:T", _times(180 / pi), to_float=True),
    pointwise("aten.logit.default", "self:T, eps=None", _logit, to_float=True),
    pointwise("aten.special_logit.default", "self:T, eps=None", _logit, to_float=True),
)
