"""Pieces of device memory and the pool that output buffers come from.

A piece goes back to its pool when nothing refers to it any more: not the NPUBuffer, no numpy
view, no DLPack consumer. So an output stays as it is for as long as anyone can see it, and a
steady loop allocates nothing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from npu_runtime.convert import Array

if TYPE_CHECKING:
    from npu_runtime import _native


class Memory:
    """A native buffer and, where it came from a pool, the way back."""

    __slots__ = ("__weakref__", "_pool", "native")

    def __init__(self, native: _native.Buffer, pool: deque[_native.Buffer] | None = None) -> None:
        self.native = native
        self._pool = pool

    def __del__(self) -> None:
        if self._pool is not None:
            self._pool.append(self.native)

    @property
    def nbytes(self) -> int:
        """Size of the native buffer."""
        return self.native.size

    @property
    def __array_interface__(self) -> dict[str, Any]:
        # numpy keeps this object alive as the array's base: views hold the piece, as they must.
        host = self.native.host_view()
        if host is None:
            raise TypeError("this device's memory is not visible to the host")
        return host.__array_interface__

    def host(self) -> Array | None:
        """The bytes in place, kept alive by the array; None where the host cannot see them."""
        return None if self.native.host_view() is None else np.asarray(self)

    def read(self) -> Array:
        """The bytes as a uint8 array: in place where the host sees them, else a copy."""
        host = self.host()
        if host is None:
            host = np.empty(self.nbytes, np.uint8)
            self.native.download(0, host)
        return host


class Pool:
    """Native buffers of one size, reused when their users have gone. Thread-safe."""

    def __init__(self, device: _native.Device, nbytes: int) -> None:
        self._device = device
        self._nbytes = nbytes
        self._free: deque[_native.Buffer] = deque()

    def take(self) -> Memory:
        """A piece of memory; its content is whatever the last user left (zero at first)."""
        try:
            native = self._free.pop()
        except IndexError:
            native = self._device.allocate(self._nbytes)
        return Memory(native, self._free)
