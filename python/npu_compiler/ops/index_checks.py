"""Checks that operators with index tensors share."""

from __future__ import annotations

from npu_compiler.graph import Value
from npu_compiler.ops.arguments import require
from npu_compiler.ops.record import FLOATS

# Dtypes whose elements can be picked and replaced.
INDEXABLE = FLOATS | {"int64", "int32", "int16", "int8", "uint8", "bool"}
INDEX_DTYPES = ("int64", "int32")


def check_index(index: Value, name: str) -> None:
    """Refuse an index tensor of another dtype than int64 and int32."""
    require(
        index.dtype in INDEX_DTYPES,
        f"{name} must be int64 or int32, got {index.dtype}"
        + ("; what a mask picks depends on the data" if index.dtype in ("bool", "uint8") else ""),
    )


def same_dtypes(*values: Value) -> None:
    """Refuse tensors of different dtypes."""
    require(
        len({v.dtype for v in values}) == 1,
        f"the tensors must have one dtype, got {[v.dtype for v in values]}",
    )
