"""Comparisons in their operands' common dtype."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_compiler.ops.pointwise import Args, Formula, pointwise

if TYPE_CHECKING:
    from npu_compiler.elementwise import Builder, Register


def _eq(b: Builder, a: Args) -> Register:
    return b("eq", a["self"], a["other"])


def _ne(b: Builder, a: Args) -> Register:
    return b.negation(_eq(b, a))


def _lt(b: Builder, a: Args) -> Register:
    return b("lt", a["self"], a["other"])


def _le(b: Builder, a: Args) -> Register:
    return b("le", a["self"], a["other"])


def _gt(b: Builder, a: Args) -> Register:
    return b("lt", a["other"], a["self"])


def _ge(b: Builder, a: Args) -> Register:
    return b("le", a["other"], a["self"])


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
