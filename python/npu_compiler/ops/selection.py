"""Selection by a condition, and clamping between bounds."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import number, require
from npu_compiler.ops.pointwise import (
    NUMBERS,
    Args,
    Formula,
    check_elementwise,
    pointwise,
)
from npu_compiler.ops.record import ALL, OpRecord

if TYPE_CHECKING:
    from npu_compiler.elementwise import Builder, Register

Bounds = Callable[[Args], tuple[float, float] | None]


def _where(b: Builder, a: Args) -> Register:
    x, y = a["self"], a["other"]
    if isinstance(x, (int, float)) and isinstance(y, (int, float)):
        x = b.constant(x, "f" if isinstance(x, float) or isinstance(y, float) else "l")
    return b("select", b.truth(a["condition"]), x, y)


def _masked_fill(b: Builder, a: Args) -> Register:
    x = a["self"]
    return b("select", b.truth(a["mask"]), b.convert(a["value"], x.type), x)


def _check_condition(name: str) -> Callable[[Node], str | None]:
    def check(node: Node) -> str | None:
        check_elementwise(node)
        condition = node.args[name]
        require(
            isinstance(condition, Value) and condition.dtype in ("bool", "uint8"),
            f"{name} must be a bool tensor, got {condition!r}",
        )
        return None

    return check


def clamped(b: Builder, x: Any, low: Any, high: Any) -> Any:
    """min(max(x, low), high): NaN stays, and ``high`` wins over ``low``."""
    if low is not None:
        x = b("max", x, low)
    return x if high is None else b("min", x, high)


def _clamp(b: Builder, a: Args) -> Register:
    result: Register = clamped(b, a["self"], a.get("min"), a.get("max"))
    return result


def scalar_bounds(low_name: str, high_name: str) -> Bounds:
    """The bounds that two arguments of a clamping op give; None where they are tensors."""

    def bounds(args: Args) -> tuple[float, float] | None:
        low, high = args.get(low_name), args.get(high_name)
        if isinstance(low, Value) or isinstance(high, Value):
            return None
        return (-inf if low is None else low, inf if high is None else high)

    return bounds


def _check_bounds(args: Args) -> str | None:
    low, high = args.get("min"), args.get("max")
    require(low is not None or high is not None, "min and max are both absent")
    for name, value in (("min", low), ("max", high)):
        if value is not None and not isinstance(value, Value):
            require(number(value, name) == value, f"{name} must not be NaN")
    return None


def _clamp_record(op_type: str, signature: str) -> OpRecord:
    of_tensors = op_type.endswith(".Tensor")
    return pointwise(
        op_type,
        signature,
        _clamp,
        promotes=("self", "min", "max"),
        computes=NUMBERS,
        clamp=None if of_tensors else scalar_bounds("min", "max"),
        check_attrs=None if of_tensors else _check_bounds,
    )


def _select(
    op_type: str, signature: str, emit: Formula, promotes: tuple[str, ...], condition: str
) -> OpRecord:
    return OpRecord(
        op_type,
        signature,
        emit=emit,
        check=_check_condition(condition),
        dtypes=ALL,
        promotes=promotes,
        result="common",
    )


RECORDS = (
    *(
        _select(
            f"aten.where.{kind}",
            "condition:T, self:T, other:T",
            _where,
            ("self", "other"),
            "condition",
        )
        for kind in ("self", "ScalarSelf", "ScalarOther", "Scalar")
    ),
    *(
        _select(
            f"aten.masked_fill.{kind}", "self:T, mask:T, value:T", _masked_fill, ("self",), "mask"
        )
        for kind in ("Scalar", "Tensor")
    ),
    _clamp_record("aten.clamp.default", "self:T, min=None, max=None"),
    _clamp_record("aten.clamp.Tensor", "self:T, min:T?, max:T?"),
    _clamp_record("aten.clamp_min.default", "self:T, min"),
    _clamp_record("aten.clamp_min.Tensor", "self:T, min:T"),
    _clamp_record("aten.clamp_max.default", "self:T, max"),
    _clamp_record("aten.clamp_max.Tensor", "self:T, max:T"),
)
