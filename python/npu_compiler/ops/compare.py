"""Comparisons in their operands' common dtype, which rounds numbers, too, as PyTorch does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_compiler.ops.pointwise import Args, Formula, pointwise, rounded

if TYPE_CHECKING:
    from npu_compiler.elementwise import Builder, Operand, Register


def _compare(op: str, b: Builder, left: Operand, right: Operand) -> Register:
    return b(op, rounded(b, left), rounded(b, right))


def _eq(b: Builder, a: Args) -> Register:
    return _compare("eq", b, a["self"], a["other"])


def _ne(b: Builder, a: Args) -> Register:
    return b.negation(_eq(b, a))


def _lt(b: Builder, a: Args) -> Register:
    return _compare("lt", b, a["self"], a["other"])


def _le(b: Builder, a: Args) -> Register:
    return _compare("le", b, a["self"], a["other"])


def _gt(b: Builder, a: Args) -> Register:
    return _compare("lt", b, a["other"], a["self"])


def _ge(b: Builder, a: Args) -> Register:
    return _compare("le", b, a["other"], a["self"])


_COMPARISONS: dict[str, Formula] = {
    "eq": _eq,
    "ne": _ne,
    "lt": _lt,
    "le": _le,
    "gt": _gt,
    "ge": _ge,
}
RECORDS = tuple(
    pointwise(f"aten.{name}.{kind}", signature, emit, result="bool")
    for name, emit in _COMPARISONS.items()
    for kind, signature in (("Tensor", "self:T, other:T"), ("Scalar", "self:T, other"))
)
