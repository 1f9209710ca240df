"""Where a tensor's elements lie in a buffer: shape, padded shape, strides, storage dtype."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from npu_compiler.program.schema import ALIGNMENT
from npu_compiler.view import contiguous_strides
from npu_runtime.convert import Array
from npu_runtime.dtypes import dtype_name, numpy_dtype
from npu_runtime.errors import ArgumentError

if TYPE_CHECKING:
    from npu_compiler.compiled_program import TensorSpec


@dataclass(frozen=True)
class Layout:
    """Shapes in logical (NCHW) order; strides in elements, one per axis of ``alloc_shape``."""

    shape: tuple[int, ...]
    alloc_shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def row_major(
        cls, shape: Sequence[int], dtype: np.dtype[Any], alloc_shape: Sequence[int] | None = None
    ) -> Layout:
        """C order over ``alloc_shape`` (default: ``shape``, no padding)."""
        real = _checked_shape(shape, "shape")
        padded = real if alloc_shape is None else _checked_shape(alloc_shape, "alloc_shape")
        if len(padded) != len(real) or any(a < s for a, s in zip(padded, real, strict=True)):
            raise ArgumentError(f"alloc_shape {list(padded)} does not hold shape {list(real)}")
        return cls(real, padded, contiguous_strides(padded), dtype)

    @classmethod
    def of_spec(cls, spec: TensorSpec) -> Layout:
        """The layout that a program declares for one of its tensors."""
        return _layout(spec.shape, spec.alloc_shape, spec.strides, spec.storage_dtype)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the buffer that holds the tensor: a multiple of the program's alignment."""
        if 0 in self.alloc_shape:
            return ALIGNMENT
        last = sum((n - 1) * s for n, s in zip(self.alloc_shape, self.strides, strict=True))
        return -(-(last + 1) * self.dtype.itemsize // ALIGNMENT) * ALIGNMENT

    @property
    def is_padded(self) -> bool:
        """Whether the allocation is larger than the tensor."""
        return self.alloc_shape != self.shape

    def view(self, memory: Array) -> Array:
        """The tensor, without its padding, in the buffer's bytes (``nbytes`` or more)."""
        flat = memory.reshape(-1).view(np.uint8)
        if flat.nbytes < self.nbytes:
            raise ArgumentError(f"{self}: {flat.nbytes} bytes of memory are too few")
        strides = tuple(s * self.dtype.itemsize for s in self.strides)
        return np.ndarray(self.shape, self.dtype, flat, 0, strides)

    def __str__(self) -> str:
        text = f"{dtype_name(self.dtype)}{list(self.shape)}"
        if self.is_padded:
            text += f" padded to {list(self.alloc_shape)}"
        return text


@lru_cache(maxsize=1024)
def _layout(
    shape: tuple[int, ...], alloc_shape: tuple[int, ...], strides: tuple[int, ...], dtype: str
) -> Layout:
    """Equal layouts of specs are one object, which makes comparing them quick."""
    return Layout(shape, alloc_shape, strides, numpy_dtype(dtype))


def _checked_shape(shape: Sequence[int], what: str) -> tuple[int, ...]:
    sizes = tuple(int(s) for s in shape)
    if any(s < 0 for s in sizes):
        raise ArgumentError(f"{what} {list(sizes)}: a size is negative")
    return sizes
