"""Arrays laid out in memory in unusual ways, between guards that show stray reads and writes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
POISON = 0xFF
FLOATS: dict[str, Any] = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}


class Placed:
    """An array inside a poisoned block (all bits set: NaN in every floating dtype)."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> None:
        order = rng.permutation(len(shape))
        around = [(int(rng.integers(0, 3)), int(rng.integers(0, 3))) for _ in shape]
        outer = [shape[a] + sum(around[a]) for a in order]
        size = int(np.prod(outer)) * np.dtype(dtype).itemsize
        self.block: Array = np.full(size, POISON, np.uint8)
        inner = tuple(slice(around[a][0], around[a][0] + shape[a]) for a in order)
        whole = self.block.view(dtype).reshape(outer)
        self.array: Array = whole[inner].transpose(np.argsort(order))

    def assert_surroundings_untouched(self) -> None:
        """Nothing but the array itself may have been written."""
        bits = self.array.view(f"u{self.array.itemsize}")
        kept = bits.copy()
        bits[...] = np.iinfo(bits.dtype).max
        assert (self.block == POISON).all(), "a kernel wrote beside its output"
        bits[...] = kept


def place(rng: np.random.Generator, values: Array) -> Array:
    """``values`` with random strides and poison around them; some axes run backwards."""
    axes = [slice(None, None, -1) if rng.random() < 0.15 else slice(None) for _ in values.shape]
    flip = tuple(axes)
    placed = Placed(rng, values.shape, values.dtype)
    placed.array[...] = values[flip]
    return placed.array[flip]


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    """Standard normal values, rounded to ``dtype``."""
    return rng.standard_normal(shape).astype(np.float32).astype(dtype)


def assert_close(got: Array, want: Array, rtol: float, atol: float) -> None:
    """``got`` within tolerance of the float64 ``want``; NaN and infinities exactly where wanted."""
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=rtol, atol=atol)
