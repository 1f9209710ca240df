"""numpy's side of the data types: what callers may write for a dtype, and what messages call it."""

from __future__ import annotations

from typing import Any

import numpy as np

from npu_compiler import arrays
from npu_compiler.dtypes import DTYPES, FLOATING
from npu_runtime.errors import ArgumentError

_NAMES: dict[np.dtype[Any], str] = {arrays.numpy_dtype(name): name for name in DTYPES}


def numpy_dtype(dtype: Any) -> np.dtype[Any]:
    """The numpy dtype of a name, numpy dtype or ``torch.dtype``; ArgumentError for others."""
    if isinstance(dtype, np.dtype) and dtype in _NAMES:
        return dtype
    name = dtype if isinstance(dtype, str) else str(dtype).removeprefix("torch.")
    if name in DTYPES:
        return arrays.numpy_dtype(name)
    try:
        native: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
    except TypeError:
        native = np.dtype(object)
    if native not in _NAMES:
        raise ArgumentError(f"dtype {dtype!r} is not supported: use one of {', '.join(DTYPES)}")
    return native


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The program's name of a numpy dtype; numpy's own name where the program has none."""
    return _NAMES.get(dtype, str(dtype))


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is one of the floating ones (bfloat16 included)."""
    return _NAMES.get(dtype) in FLOATING
