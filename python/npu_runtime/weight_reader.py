"""Weights that are tensors of a file as they are: used in place or read into their memory.

Most weights of a model need no computation. One that is a single tensor stays in the mapped file
where the device can use it there; one that joins several (the projections of an attention layer) is
read into its final memory, without a copy in between; one that is stored in another floating dtype
is converted on the way there. All of it happens on several threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np

from npu_compiler.arrays import cast
from npu_compiler.dtypes import FLOATING
from npu_runtime.buffer import NPUBuffer
from npu_runtime.convert import Array
from npu_runtime.dtypes import dtype_name
from npu_runtime.layout import Layout
from npu_runtime.memory import Memory

if TYPE_CHECKING:
    from npu_compiler.program.recipes import Recipe
    from npu_runtime.device import Device
    from npu_runtime.tensor_files import TensorSource

_P = ParamSpec("_P")
_T = TypeVar("_T")
# What one thread reads at a time: large enough for the disk, small enough for progress to move.
CHUNK_BYTES = 16 << 20
_PAGE_BYTES = 4096
_THREADS = 4


def stored_parts(recipe: Recipe, layout: Layout, tensors: TensorSource) -> list[str] | None:
    """Names of the tensors that, one behind the other and in the weight's dtype, are the weight
    that ``recipe`` makes. All of them have the same dtype.

    None where something is computed, and where shapes do not fit together: running the recipe
    says what is wrong.
    """
    parts: list[str] = []
    shape: tuple[int, ...] = ()
    stored = current = ""
    for index, step in enumerate(recipe):
        if step.op == "load" and index == 0:
            parts.append(str(step.sources[0]))
            shape, stored = tensors.describe(parts[0])
            current = stored
        elif step.op == "append" and shape and current == stored:
            parts.append(str(step.sources[0]))
            more, dtype = tensors.describe(parts[-1])
            if dtype != stored or not more or more[1:] != shape[1:]:
                return None
            shape = (shape[0] + more[0], *shape[1:])
        elif step.op == "reshape" and index > 0 and prod(step.args) == prod(shape):
            shape = step.args
        elif step.op == "cast" and step.dtype == current:
            continue
        elif step.op == "cast" and current == stored and {stored, step.dtype} <= FLOATING:
            current = str(step.dtype)
        else:
            return None
    fits = shape == layout.alloc_shape and not layout.is_padded
    return parts if parts and fits and current == dtype_name(layout.dtype) else None


class WeightReader:
    """Reads stored tensors on several threads; ``finish`` waits for all that was begun.

    A context manager: on an error the reads that have not begun are dropped.
    """

    def __init__(self, tensors: TensorSource, device: Device, advance: Callable[[int], None]):
        self._tensors = tensors
        self._device = device
        # Told of bytes that are there, on the caller's thread.
        self._advance = advance
        self.threads = min(_THREADS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self.threads)
        self._reads: list[tuple[Future[None], int]] = []

    def __enter__(self) -> WeightReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def weight(self, parts: list[str], layout: Layout) -> NPUBuffer:
        """The weight that these tensors make; its content is there after ``finish``."""
        converts = self._tensors.describe(parts[0])[1] != dtype_name(layout.dtype)
        if len(parts) == 1 and not converts:
            found = self._in_place(parts[0], layout)
            if found is not None:
                return found
        native = self._device.native.allocate(layout.nbytes)
        host = native.host_view()
        memory = np.empty(layout.nbytes, np.uint8) if host is None else host
        begin = 0
        for name in parts:
            end = begin + prod(self._tensors.describe(name)[0]) * layout.dtype.itemsize
            if converts:
                self._convert(name, memory[begin:end].view(layout.dtype))
            else:
                for first, last in _chunks(end - begin):
                    piece = memory[begin + first : begin + last]
                    self._submit(last - first, self._tensors.read_into, name, first, piece)
            begin = end
        if host is None:
            # One weight at a time, so that only one is on the host and on the device at once.
            self.finish()
            native.upload(0, memory)
        return NPUBuffer(Memory(native), layout, self._device)

    def finish(self) -> None:
        """Wait for everything that was begun. Raises FileError for a file that cannot be read."""
        for read, size in self._reads:
            read.result()
            self._advance(size)
        self._reads.clear()

    def submit(self, task: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Run something else on these threads; ``finish`` does not wait for it."""
        return self._pool.submit(task, *args, **kwargs)

    def _in_place(self, name: str, layout: Layout) -> NPUBuffer | None:
        """The tensor where it lies; None where the device cannot use it there."""
        data = np.ascontiguousarray(self._tensors.get(name)).reshape(-1).view(np.uint8)
        if data.nbytes != layout.nbytes:
            return None
        native = self._device.native.wrap(data)
        host = native.host_view()
        if host is None or host.ctypes.data != data.ctypes.data:
            self._tensors.release(name)
            self._advance(data.nbytes)
        else:
            self._tensors.expect(name)
            for first, last in _chunks(data.nbytes):
                self._submit(last - first, _touch, data[first:last])
        return NPUBuffer(Memory(native), layout, self._device)

    def _convert(self, name: str, out: Array) -> None:
        """Fill ``out`` (one dimension) with a tensor, converted to its dtype."""
        flat = np.ascontiguousarray(self._tensors.get(name)).reshape(-1)
        size = out.dtype.itemsize
        for first, last in _chunks(out.size, CHUNK_BYTES // size):
            piece = slice(first, last)
            self._submit((last - first) * size, _convert_piece, flat[piece], out[piece])
        self._submit(0, self._tensors.release, name)

    def _submit(self, size: int, task: Callable[..., None], *arguments: object) -> None:
        self._reads.append((self.submit(task, *arguments), size))


def _chunks(size: int, step: int | None = None) -> Iterator[tuple[int, int]]:
    step = max(1, step or CHUNK_BYTES)
    return ((first, min(first + step, size)) for first in range(0, size, step))


def _convert_piece(source: Array, out: Array) -> None:
    np.copyto(out, cast(source, dtype_name(out.dtype)))


def _touch(data: Array) -> None:
    """Brings mapped pages in, so that the first run does not wait for the file."""
    np.bitwise_or.reduce(data[::_PAGE_BYTES])
