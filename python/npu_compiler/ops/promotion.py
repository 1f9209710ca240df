"""Type promotion as ``torch.result_type`` does it: of tensors, 0-d tensors and Python numbers, each
kind gives way to the one before it within a category (bool, integers, floats).
"""

from __future__ import annotations

from collections.abc import Iterable

from npu_compiler.dtypes import FLOATING
from npu_compiler.graph import Value

# What a Python float becomes among integers.
DEFAULT_FLOAT = "float32"
_ORDER = ("bool", "uint8", "int8", "int16", "int32", "int64")
_FLOAT_ORDER = ("float16", "bfloat16", "float32", "float64")


def promote(a: str, b: str) -> str:
    """The dtype that holds values of both dtypes."""
    if a == b:
        return a
    floats = [d for d in (a, b) if d in FLOATING]
    if len(floats) == 1:
        return floats[0]
    if floats:
        halves = {a, b} == {"float16", "bfloat16"}
        return "float32" if halves else max(a, b, key=_FLOAT_ORDER.index)
    return "int16" if {a, b} == {"uint8", "int8"} else max(a, b, key=_ORDER.index)


def _category(dtype: str) -> int:
    return 2 if dtype in FLOATING else 0 if dtype == "bool" else 1


def result_type(operands: Iterable[Value | float]) -> str:
    """The dtype in which an operator computes with ``operands`` (tensors and numbers)."""
    kinds: dict[int, str] = {}
    for operand in operands:
        if isinstance(operand, Value):
            kind, dtype = (0 if operand.rank else 1), operand.dtype
        else:
            kind, dtype = 2, number_dtype(operand)
        kinds[kind] = promote(kinds.get(kind, dtype), dtype)
    found = ""
    for kind in sorted(kinds):
        if not found or _category(kinds[kind]) > _category(found):
            found = kinds[kind]
    return found


def number_dtype(value: float) -> str:
    """The dtype that a Python number counts as."""
    return "bool" if isinstance(value, bool) else "int64" if isinstance(value, int) else "float32"
