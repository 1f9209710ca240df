"""Logic on any dtype, bitwise operators and shifts on integers and bools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_compiler.ops.pointwise import Args, Formula, pointwise
from npu_compiler.ops.record import INTEGERS, INTEGERS_AND_BOOL, OpRecord

if TYPE_CHECKING:
    from npu_compiler.elementwise import Builder, Register


def _logical(op: str) -> Formula:
    return lambda b, a: b(f"{op}_i", b.truth(a["self"]), b.truth(a["other"]))


def _logical_not(b: Builder, a: Args) -> Register:
    return b.negation(b.truth(a["self"]))


def _bitwise(op: str) -> Formula:
    return lambda b, a: b(op, a["self"], a["other"])


def _bitwise_not(b: Builder, a: Args) -> Register:
    x = a["self"]
    # By dtype: an integer that a bool was converted to is 0 or 1, too.
    return b.negation(x) if b.dtype == "bool" else b("xor", x, -1)


def _binary(op: str) -> tuple[OpRecord, ...]:
    """All overloads of a bitwise operator."""
    forms = [
        (f"aten.bitwise_{op}.Tensor", "self:T, other:T"),
        (f"aten.bitwise_{op}.Scalar", "self:T, other"),
        (f"aten.bitwise_{op}.Scalar_Tensor", "self:T, other:T"),
        (f"aten.__{op}__.Tensor", "self:T, other:T"),
        (f"aten.__{op}__.Scalar", "self:T, other"),
    ]
    return tuple(
        pointwise(op_type, signature, _bitwise(op), computes=INTEGERS_AND_BOOL)
        for op_type, signature in forms
    )


def _shift(word: str, op: str) -> tuple[OpRecord, ...]:
    forms = [
        (f"aten.bitwise_{word}_shift.Tensor", "self:T, other:T"),
        (f"aten.bitwise_{word}_shift.Tensor_Scalar", "self:T, other"),
        (f"aten.bitwise_{word}_shift.Scalar_Tensor", "self:T, other:T"),
        (f"aten.__{word[0]}shift__.Tensor", "self:T, other:T"),
        (f"aten.__{word[0]}shift__.Scalar", "self:T, other"),
    ]
    return tuple(
        pointwise(op_type, signature, _bitwise(op), computes=INTEGERS)
        for op_type, signature in forms
    )


RECORDS = (
    *(
        pointwise(
            f"aten.logical_{op}.default",
            "self:T, other:T",
            _logical(op),
            promotes=("self",),
            result="bool",
        )
        for op in ("and", "or", "xor")
    ),
    pointwise("aten.logical_not.default", "self:T", _logical_not, result="bool"),
    *(record for op in ("and", "or", "xor") for record in _binary(op)),
    pointwise("aten.bitwise_not.default", "self:T", _bitwise_not, computes=INTEGERS_AND_BOOL),
    *_shift("left", "shl"),
    *_shift("right", "shr"),
)
