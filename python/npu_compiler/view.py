"""Views: a strided window on a storage, and the view operations that stay strides.

``pad`` = (dim, extent) says that indices shape[dim]..extent-1 of that dimension exist in memory and
are zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from npu_compiler.dtypes import DTYPES

StorageKind = Literal["arena", "input", "output", "weight", "constant"]


@dataclass(eq=False, slots=True)
class Storage:
    """A piece of device memory that holds one tensor, described as the user would see it."""

    name: str
    kind: StorageKind
    dtype: str
    ir_dtype: str
    shape: tuple[int, ...]
    alloc_shape: tuple[int, ...]
    strides: tuple[int, ...]
    layout: str

    @property
    def size_bytes(self) -> int:
        """Bytes, a multiple of 64."""
        return -(-prod(self.alloc_shape) * DTYPES[self.dtype].size // 64) * 64

    def view(self) -> View:
        """The whole tensor."""
        pads = [
            (d, a)
            for d, (n, a) in enumerate(zip(self.shape, self.alloc_shape, strict=True))
            if a > n
        ]
        return View(self, self.shape, self.strides, 0, pads[0] if len(pads) == 1 else None)


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    strides = []
    step = 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def reshape_strides(
    shape: Sequence[int], strides: Sequence[int], new_shape: Sequence[int]
) -> tuple[int, ...] | None:
    """Strides that show the same elements in order as ``new_shape``, or None if none do."""
    if prod(shape) == 0:
        return contiguous_strides(new_shape)
    old = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    result = [0] * len(new_shape)
    at = 0
    dim = 0
    while dim < len(new_shape):
        if new_shape[dim] == 1:
            dim += 1
            continue
        if at == len(old):
            return None
        # The smallest run of old dimensions from ``at`` and of new ones from ``dim`` with equal
        # products.
        old_end, new_end = at + 1, dim + 1
        old_size, new_size = old[at][0], new_shape[dim]
        while old_size != new_size:
            if old_size < new_size:
                if old_end == len(old):
                    return None
                old_size *= old[old_end][0]
                old_end += 1
            else:
                if new_end == len(new_shape):
                    return None
                new_size *= new_shape[new_end]
                new_end += 1
        for k in range(at, old_end - 1):
            if old[k][1] != old[k + 1][0] * old[k + 1][1]:
                return None
        step = old[old_end - 1][1]
        for k in range(new_end - 1, dim - 1, -1):
            result[k] = step
            step *= new_shape[k]
        at, dim = old_end, new_end
    return tuple(result)


@dataclass(frozen=True, slots=True)
class View:
    """Elements of a storage: shape, strides and offset in elements. Equal views show the same
    elements.
    """

    storage: Storage
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    pad: tuple[int, int] | None = None

    @property
    def dtype(self) -> str:
        """Storage dtype."""
        return self.storage.dtype

    @property
    def numel(self) -> int:
        """Number of elements, padding not counted."""
        return prod(self.shape)

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        expected = contiguous_strides(self.shape)
        return all(
            n == 1 or s == e for n, s, e in zip(self.shape, self.strides, expected, strict=True)
        )

    def padded(self) -> View:
        """The view with its zero padding as ordinary elements."""
        if self.pad is None:
            return self
        dim, extent = self.pad
        shape = (*self.shape[:dim], extent, *self.shape[dim + 1 :])
        return View(self.storage, shape, self.strides, self.offset)

    def padding_only(self) -> View:
        """Just the zero padding of a padded view."""
        if self.pad is None:
            return replace(self, shape=(0,) * len(self.shape))
        dim, extent = self.pad
        shape = (*self.shape[:dim], extent - self.shape[dim], *self.shape[dim + 1 :])
        offset = self.offset + self.shape[dim] * self.strides[dim]
        return View(self.storage, shape, self.strides, offset)

    def permute(self, axes: Sequence[int]) -> View:
        """Reordered dimensions."""
        pad = None if self.pad is None else (list(axes).index(self.pad[0]), self.pad[1])
        return View(
            self.storage,
            tuple(self.shape[a] for a in axes),
            tuple(self.strides[a] for a in axes),
            self.offset,
            pad,
        )

    def slice(self, dim: int, start: int, length: int, step: int = 1) -> View:
        """Elements start, start + step, ... (``length`` of them) of ``dim``."""
        if start == 0 and step == 1 and length == self.shape[dim]:
            return self
        pad = self.pad if self.pad is not None and self.pad[0] != dim else None
        return View(
            self.storage,
            (*self.shape[:dim], length, *self.shape[dim + 1 :]),
            (*self.strides[:dim], self.strides[dim] * step, *self.strides[dim + 1 :]),
            self.offset + (start * self.strides[dim] if length else 0),
            pad,
        )

    def drop(self, dim: int, index: int = 0) -> View:
        """The elements at ``index`` of ``dim``, without that dimension."""
        pad = None
        if self.pad is not None and self.pad[0] != dim:
            pad = (self.pad[0] - (self.pad[0] > dim), self.pad[1])
        return View(
            self.storage,
            (*self.shape[:dim], *self.shape[dim + 1 :]),
            (*self.strides[:dim], *self.strides[dim + 1 :]),
            self.offset + index * self.strides[dim],
            pad,
        )

    def insert(self, dim: int) -> View:
        """A new dimension of size 1 before ``dim``."""
        pad = None
        if self.pad is not None:
            pad = (self.pad[0] + (self.pad[0] >= dim), self.pad[1])
        return View(
            self.storage,
            (*self.shape[:dim], 1, *self.shape[dim:]),
            (*self.strides[:dim], 0, *self.strides[dim:]),
            self.offset,
            pad,
        )

    def expand(self, shape: Sequence[int]) -> View:
        """Broadcast to ``shape``: new leading dimensions and dimensions of size 1 get stride 0."""
        extra = len(shape) - len(self.shape)
        strides = [0] * extra
        for n, size, stride in zip(shape[extra:], self.shape, self.strides, strict=True):
            strides.append(stride if n == size else 0)
        pad = None
        if self.pad is not None and self.shape[self.pad[0]] == shape[self.pad[0] + extra]:
            pad = (self.pad[0] + extra, self.pad[1])
        return View(self.storage, tuple(shape), tuple(strides), self.offset, pad)

    def reshape(self, shape: Sequence[int]) -> View | None:
        """The same elements in row-major order as ``shape``, or None where that needs a copy."""
        if tuple(shape) == self.shape:
            return self
        strides = reshape_strides(self.shape, self.strides, shape)
        return None if strides is None else View(self.storage, tuple(shape), strides, self.offset)


def merge_axes(views: Sequence[View], groups: Sequence[Sequence[int]]) -> list[View] | None:
    """Every view with each group of dimensions merged into one; None where some view's strides
    forbid it.
    """
    merged = []
    for view in views:
        ordered = view.permute([a for group in groups for a in group])
        shape = [prod(view.shape[a] for a in group) for group in groups]
        shaped = _merge(ordered, [len(g) for g in groups], shape)
        if shaped is None:
            return None
        merged.append(shaped)
    return merged


def _merge(view: View, counts: Sequence[int], shape: Sequence[int]) -> View | None:
    strides: list[int] = []
    at = 0
    for count, size in zip(counts, shape, strict=True):
        part = reshape_strides(view.shape[at : at + count], view.strides[at : at + count], (size,))
        if part is None:
            return None
        strides += part
        at += count
    return View(view.storage, tuple(shape), tuple(strides), view.offset)
