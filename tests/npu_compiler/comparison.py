"""What a device computed beside what PyTorch did: values within a tolerance, padding of zeros."""

from __future__ import annotations

import numpy as np

from npu_compiler.arrays import numpy_dtype
from npu_compiler.compiled_program import TensorSpec

# Largest error relative to the largest magnitude of the reference. float32: sums in another order.
# float16 and bfloat16: one rounding (2**-11, 2**-8) per tensor in memory, accumulated over a few
# layers.
TOLERANCE = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 4e-2}


def check_padding(spec: TensorSpec, memory: np.ndarray) -> None:
    """The padding in the raw memory of an output (bytes) is zero."""
    if spec.shape == spec.alloc_shape or 0 in spec.shape:
        return
    (dim,) = (d for d in range(len(spec.shape)) if spec.shape[d] != spec.alloc_shape[d])
    dtype = numpy_dtype(spec.storage_dtype)
    strides = [s * dtype.itemsize for s in spec.strides]
    raw = np.ndarray(spec.alloc_shape, dtype, memory, 0, strides)
    whole = raw.astype(np.float32).swapaxes(0, dim)
    values, lanes = whole[: spec.shape[dim]], whole[spec.shape[dim] :]
    # A kernel that computes padded channels with zero weights makes NaN of infinite inputs; nothing
    # reads them.
    excused = np.isnan(lanes) & (not np.isfinite(values).all())
    assert np.all((lanes == 0) | excused), f"{spec.name}: padding is not zero"


def compare(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Equal shape, dtype, NaNs and infinities; floats within ``tolerance`` of the largest
    magnitude, everything else exact.
    """
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    if actual.dtype.kind in "biu":
        assert np.array_equal(actual, expected), "integers and bools must be exact"
        return
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    assert np.array_equal(np.isnan(a), np.isnan(e)), "NaN in other places"
    infinite = np.isinf(e)
    assert np.array_equal(a[infinite], e[infinite]), "infinities in other places"
    finite = np.isfinite(e)
    if not finite.any():
        return
    error = np.abs(a[finite] - e[finite]).max()
    scale = max(np.abs(e[finite]).max(), 1e-3)
    assert error <= tolerance * scale, f"error {error:.3g} for values up to {scale:.3g}"
