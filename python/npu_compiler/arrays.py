"""numpy dtypes of the program's storage types; bfloat16 comes from ml_dtypes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from npu_compiler.dtypes import DTYPES

Array = NDArray[Any]

_NUMPY: dict[str, np.dtype[Any]] = {
    name: np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name) for name in DTYPES
}


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype of a storage dtype."""
    return _NUMPY[name]


def cast(array: Array, dtype: str) -> Array:
    """``array`` as ``dtype``, rounded once (nearest even); what overflows becomes infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(numpy_dtype(dtype), copy=False)
