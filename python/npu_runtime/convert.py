"""Arrays in and out of storage: casts, checked integer narrowing, padding, permutation.

A storage view is strided over device memory in logical axis order, so that one copy casts, pads
and permutes.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from npu_runtime._native import round_to_float16
from npu_runtime.dtypes import dtype_name, is_floating, numpy_dtype
from npu_runtime.errors import ArgumentError

Array = np.ndarray[Any, np.dtype[Any]]


def as_array(value: Any, what: str) -> Array:
    """A numpy array of anything array-like on the host: numpy, torch (bfloat16 too), DLPack.

    ``what`` names the tensor in the ArgumentError that other values get.
    """
    if isinstance(value, np.ndarray):
        return value
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        value = value.detach()
        if value.dtype == torch.bfloat16:
            bits: Array = value.cpu().contiguous().view(torch.int16).numpy()
            return bits.view(numpy_dtype("bfloat16"))
        array: Array = value.cpu().numpy()
        return array
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    array = np.asarray(value)
    if array.dtype == object or (array.dtype.kind in "USMmV" and not is_floating(array.dtype)):
        raise ArgumentError(
            f"{what}: a {type(value).__name__} is not an array of numbers; "
            "give an NPUBuffer, a numpy array or a torch tensor"
        )
    return array


def default_storage(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What an array is stored as without a spec: float32 and float64 as float16."""
    if dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        return np.dtype(np.float16)
    return numpy_dtype(dtype)


def check_cast(array: Array, dtype: np.dtype[Any], what: str) -> None:
    """Raise ArgumentError unless the values of ``array`` may be stored as ``dtype``.

    Floating types convert into each other (rounding to nearest even); integers and bools go into
    integers that hold every value; nothing else converts silently.
    """
    source = array.dtype
    if source == dtype or (is_floating(source) and is_floating(dtype)):
        return
    if dtype.kind in "iu" and source.kind in "iub":
        if np.can_cast(source, dtype, "safe") or array.size == 0:
            return
        low, high = int(array.min()), int(array.max())
        limits = np.iinfo(dtype)
        if low < limits.min or high > limits.max:
            raise ArgumentError(
                f"{what}: values from {low} to {high} do not fit into {dtype_name(dtype)} "
                f"({limits.min} to {limits.max})"
            )
        return
    raise ArgumentError(
        f"{what}: dtype {dtype_name(source)} does not convert to {dtype_name(dtype)}; "
        f"convert it with array.astype({dtype_name(dtype)!r}) if that is meant"
    )


def store(array: Array, view: Array, what: str) -> None:
    """Write ``array`` into a storage view of the same shape, cast to its dtype (see check_cast)."""
    check_cast(array, view.dtype, what)
    if view.dtype == np.float16 and array.dtype == np.float32 and _plain(array):
        # numpy rounds one element at a time: twenty times as long, half a millisecond an image.
        rounded = view if _plain(view) else np.empty(array.shape, np.float16)
        round_to_float16(array, rounded)
        if rounded is not view:
            np.copyto(view, rounded)
        return
    # Too large for float16 becomes inf, as in PyTorch.
    with np.errstate(over="ignore", invalid="ignore"):
        np.copyto(view, array, casting="unsafe")


def _plain(array: Array) -> bool:
    return bool(array.flags.c_contiguous and array.flags.aligned)


def fetch(view: Array, dtype: np.dtype[Any]) -> Array:
    """A new C-contiguous array of ``dtype`` with the values of a storage view."""
    out = np.empty(view.shape, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        np.copyto(out, view, casting="unsafe")
    return out
