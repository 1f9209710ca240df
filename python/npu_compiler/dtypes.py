"""Data types: one table with the name, program id, size and short name of every storage type."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DType:
    """A storage type: PyTorch's name without ``torch.``, id in a program, bytes, kernel suffix."""

    name: str
    id: int
    size: int
    short: str


# Ids are part of the .npubin format: never renumber, only append.
DTYPES: dict[str, DType] = {
    d.name: d
    for d in (
        DType("float32", 1, 4, "f32"),
        DType("float16", 2, 2, "f16"),
        DType("bfloat16", 3, 2, "bf16"),
        DType("int64", 4, 8, "i64"),
        DType("int32", 5, 4, "i32"),
        DType("int16", 6, 2, "i16"),
        DType("int8", 7, 1, "i8"),
        DType("uint8", 8, 1, "u8"),
        DType("bool", 9, 1, "b8"),
        DType("float64", 10, 8, "f64"),
    )
}
BY_ID: dict[int, DType] = {d.id: d for d in DTYPES.values()}
BY_SHORT: dict[str, DType] = {d.short: d for d in DTYPES.values()}
# Bytes of an element of the types that an IR may have and only PyTorch computes with.
FOREIGN: dict[str, int] = {
    "complex32": 4,
    "complex64": 8,
    "complex128": 16,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    **dict.fromkeys(
        (
            "float8_e4m3fn",
            "float8_e4m3fnuz",
            "float8_e5m2",
            "float8_e5m2fnuz",
            "float8_e8m0fnu",
        ),
        1,
    ),
}
FLOATING = frozenset({"float16", "bfloat16", "float32", "float64"})
COMPUTE = ("float16", "bfloat16", "float32")
# The largest finite number of each float dtype.
LARGEST: dict[str, float] = {
    "float32": (2 - 2.0**-23) * 2.0**127,
    "bfloat16": (2 - 2.0**-7) * 2.0**127,
    "float16": 65504.0,
}
