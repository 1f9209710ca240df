"""Elementwise operators under their other names in ATen."""

from __future__ import annotations

from dataclasses import replace

from npu_compiler.ops import arithmetic, compare, division, selection
from npu_compiler.ops.record import OpRecord

_NAMES = {
    "absolute": "abs",
    "negative": "neg",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "clip": "clamp",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "not_equal": "ne",
}
_ORIGINALS = (
    *arithmetic.RECORDS,
    *compare.RECORDS,
    *division.RECORDS,
    *selection.RECORDS,
)


def _aliases() -> tuple[OpRecord, ...]:
    found = []
    for alias, name in _NAMES.items():
        for record in _ORIGINALS:
            namespace, own, overload = record.op_type.split(".")
            if own == name:
                found.append(replace(record, op_type=f"{namespace}.{alias}.{overload}"))
    return tuple(found)


RECORDS = _aliases()
