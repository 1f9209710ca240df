"""Comparisons, logic on bools, and selection by a condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import require
from npu_compiler.ops.arithmetic import check_elementwise, check_float
from npu_compiler.ops.record import FLOATS_AND_BOOL, OpRecord

if TYPE_CHECKING:
    from npu_compiler.elementwise import Builder, Register

Args = Mapping[str, Any]
Formula = Callable[["Builder", Args], "Register"]


def _eq(b: Builder, a: Args) -> Register:
    return b("eq_f", a["self"], a["other"])


def _ne(b: Builder, a: Args) -> Register:
    return b.negation(_eq(b, a))


def _lt(b: Builder, a: Args) -> Register:
    return b("lt_f", a["self"], a["other"])


def _le(b: Builder, a: Args) -> Register:
    return b("le_f", a["self"], a["other"])


def _gt(b: Builder, a: Args) -> Register:
    return b("lt_f", a["other"], a["self"])


def _ge(b: Builder, a: Args) -> Register:
    return b("le_f", a["other"], a["self"])


def _not(b: Builder, a: Args) -> Register:
    return b.negation(b.truth(a["self"]))


def _and(b: Builder, a: Args) -> Register:
    return b("mul_i", b.truth(a["self"]), b.truth(a["other"]))


def _or(b: Builder, a: Args) -> Register:
    return b("max_i", b.truth(a["self"]), b.truth(a["other"]))


def _xor(b: Builder, a: Args) -> Register:
    return b.negation(b("eq_i", b.truth(a["self"]), b.truth(a["other"])))


def _where(b: Builder, a: Args) -> Register:
    return b("select_f", b.truth(a["condition"]), a["self"], a["other"])


def _masked_fill(b: Builder, a: Args) -> Register:
    return b("select_f", b.truth(a["mask"]), a["value"], a["self"])


def _check_compare(node: Node) -> str | None:
    check_elementwise(node)
    require(node.output.dtype == "bool", f"the result must be bool, not {node.output.dtype}")
    return None


def _check_bools(node: Node) -> str | None:
    _check_compare(node)
    for value in node.inputs():
        require(value.dtype == "bool", f"{value.name!r} is {value.dtype}; only bools are supported")
    return None


def _check_select(name: str) -> Callable[[Node], str | None]:
    def check(node: Node) -> str | None:
        check_float(node)
        condition = node.args[name]
        require(
            isinstance(condition, Value) and condition.dtype == "bool",
            f"{name} must be a bool tensor, got {condition!r}",
        )
        return None

    return check


def _record(
    op_type: str, signature: str, emit: Formula, check: Callable[[Node], str | None]
) -> OpRecord:
    return OpRecord(op_type, signature, emit=emit, check=check, dtypes=FLOATS_AND_BOOL)


_COMPARISONS: dict[str, Formula] = {
    "eq": _eq,
    "ne": _ne,
    "lt": _lt,
    "le": _le,
    "gt": _gt,
    "ge": _ge,
}
_LOGIC: dict[str, Formula] = {"and": _and, "or": _or, "xor": _xor}
RECORDS = (
    *(
        _record(f"aten.{name}.{kind}", signature, emit, _check_compare)
        for name, emit in _COMPARISONS.items()
        for kind, signature in (("Tensor", "self:T, other:T"), ("Scalar", "self:T, other"))
    ),
    *(
        _record(op_type, "self:T, other:T", emit, _check_bools)
        for name, emit in _LOGIC.items()
        for op_type in (
            f"aten.logical_{name}.default",
            f"aten.bitwise_{name}.Tensor",
            f"aten.__{name}__.Tensor",
        )
    ),
    _record("aten.logical_not.default", "self:T", _not, _check_compare),
    _record("aten.bitwise_not.default", "self:T", _not, _check_bools),
    *(
        _record(
            f"aten.where.{kind}", "condition:T, self:T, other:T", _where, _check_select("condition")
        )
        for kind in ("self", "ScalarSelf", "ScalarOther", "Scalar")
    ),
    *(
        _record(
            f"aten.masked_fill.{kind}",
            "self:T, mask:T, value:T",
            _masked_fill,
            _check_select("mask"),
        )
        for kind in ("Scalar", "Tensor")
    ),
)
