"""numpy's side of the data types: names as in the program, bfloat16 from ml_dtypes."""

from __future__ import annotations

from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from npu_compiler.dtypes import DTYPES, FLOATING
from npu_runtime.errors import ArgumentError


@cache
def _numpy_dtypes() -> dict[str, np.dtype[Any]]:
    special = {"bfloat16": np.dtype(ml_dtypes.bfloat16)}
    return {name: special.get(name) or np.dtype(name) for name in DTYPES}


@cache
def _names() -> dict[np.dtype[Any], str]:
    return {dtype: name for name, dtype in _numpy_dtypes().items()}


def numpy_dtype(dtype: Any) -> np.dtype[Any]:
    """The numpy dtype of a name, numpy dtype or ``torch.dtype``; ArgumentError for others."""
    if isinstance(dtype, np.dtype) and dtype in _names():
        return dtype
    name = dtype if isinstance(dtype, str) else str(dtype).removeprefix("torch.")
    found = _numpy_dtypes().get(name)
    if found is not None:
        return found
    try:
        native: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
    except TypeError:
        native = np.dtype(object)
    if native not in _names():
        raise ArgumentError(f"dtype {dtype!r} is not supported: use one of {', '.join(DTYPES)}")
    return native


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The program's name of a numpy dtype; numpy's own name where the program has none."""
    return _names().get(dtype, str(dtype))


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is one of the floating ones (bfloat16 included)."""
    return _names().get(dtype) in FLOATING
