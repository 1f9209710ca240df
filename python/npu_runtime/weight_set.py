"""WeightSet: the device weights of one program, and what executors have made of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from operator import is_
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from npu_runtime.buffer import NPUBuffer

if TYPE_CHECKING:
    from npu_runtime import _native


class WeightSet(Mapping[str, NPUBuffer]):
    """An immutable mapping of weight names to buffers, as ``load_weights`` makes it.

    Executors remember what they have bound for a set (weights repacked for the processor); a
    binding is made anew after one of the buffers has changed, and dropped with the set or the
    executor.
    """

    def __init__(self, buffers: Mapping[str, NPUBuffer]) -> None:
        self._buffers = dict(buffers)
        self._order = list(self._buffers.values())
        for buffer in self._order:
            buffer.is_weight = True
        self._bindings: WeakKeyDictionary[object, tuple[tuple[int, ...], _native.Binding]]
        self._bindings = WeakKeyDictionary()
        self._lock = threading.Lock()

    def binding(self, owner: object, executable: _native.Executable) -> _native.Binding:
        """The binding of an executor (``owner``), made anew where a buffer has changed."""
        with self._lock:
            versions = tuple(b.version for b in self._order)
            known = self._bindings.get(owner)
            if known is not None and known[0] == versions:
                return known[1]
            binding = executable.bind([b.native for b in self._order])
            self._bindings[owner] = (versions, binding)
            return binding

    def holds(self, buffers: Sequence[NPUBuffer | None]) -> bool:
        """Whether these are the set's buffers, in its order."""
        return all(map(is_, buffers, self._order)) and len(buffers) == len(self._order)

    @property
    def size_bytes(self) -> int:
        """Bytes of device memory of all weights."""
        return sum(b.size_bytes for b in self._order)

    def __getitem__(self, name: str) -> NPUBuffer:
        return self._buffers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._buffers)

    def __len__(self) -> int:
        return len(self._buffers)

    def __repr__(self) -> str:
        return f"WeightSet({len(self)} weights, {self.size_bytes:,} bytes)"
