"""NPUBuffer: a tensor in device memory, and the ways in and out of it."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from npu_runtime import _native, dlpack
from npu_runtime.convert import Array, as_array, check_cast, default_storage, fetch, store
from npu_runtime.dtypes import dtype_name, numpy_dtype
from npu_runtime.errors import ArgumentError
from npu_runtime.layout import Layout
from npu_runtime.memory import Memory

if TYPE_CHECKING:
    from npu_compiler.compiled_program import TensorSpec
    from npu_runtime.device import Device

# DLPack's kDLCPU.
_DLPACK_CPU = 1


class NPUBuffer(_native.BufferExporter):
    """A tensor on a device, in the physical layout that a program wants (padded, permuted, cast).

    ``shape`` is what the user sees, ``alloc_shape`` includes channel padding (always zero),
    ``dtype`` is the storage dtype. Made by ``from_numpy``, ``zeros`` and by runs. A buffer that
    is visible to the host exports DLPack, the buffer protocol and ``__array__`` without a copy.
    Write to weights with ``write`` (or call ``mark_changed`` after writing through an exported
    view): executors keep repacked copies of the weights they have seen.
    """

    __slots__ = ("__weakref__", "_device", "_layout", "_memory", "_view", "is_weight", "version")

    # Grows with every change of a buffer in a WeightSet, for executors to notice.
    changes: ClassVar[int] = 0

    def __init__(self, memory: Memory, layout: Layout, device: Device) -> None:
        super().__init__()
        if memory.nbytes < layout.nbytes:
            raise ArgumentError(
                f"{layout} needs {layout.nbytes} bytes, the buffer has {memory.nbytes}"
            )
        self._memory = memory
        self._layout = layout
        self._device = device
        # The host's view of the tensor, made when it is first asked for.
        self._view: Array | None = None
        self.version = 0
        self.is_weight = False

    @classmethod
    def from_numpy(
        cls,
        array: Any,
        device: Device,
        alloc_shape: Sequence[int] | None = None,
        spec: TensorSpec | None = None,
    ) -> NPUBuffer:
        """Upload an array (numpy, torch, anything array-like) of the spec's shape.

        With a ``spec`` (of a program's input) the buffer gets the spec's dtype, padding and
        layout; without, float32 and float64 are stored as float16, everything else as it is, in C
        order padded with zeros to ``alloc_shape``. Floats round to nearest even; integers must
        fit (int64 into int32 is checked). Raises ArgumentError.
        """
        what = "array" if spec is None else repr(spec.name)
        values = as_array(array, what)
        if spec is None:
            layout = Layout.row_major(values.shape, default_storage(values.dtype), alloc_shape)
        else:
            layout = Layout.of_spec(spec)
            if alloc_shape is not None and tuple(alloc_shape) != layout.alloc_shape:
                raise ArgumentError(
                    f"{what}: alloc_shape {list(alloc_shape)} differs from the spec's "
                    f"{list(layout.alloc_shape)}; give one of the two"
                )
        _check_shape(values, layout, what)
        check_cast(values, layout.dtype, what)
        memory = Memory(device.native.allocate(layout.nbytes))
        return cls.filled(memory, layout, device, values, what)

    @classmethod
    def filled(
        cls, memory: Memory, layout: Layout, device: Device, array: Any, what: str
    ) -> NPUBuffer:
        """A buffer of ``layout`` in given memory (padding already zero) with an array's values."""
        values = as_array(array, what)
        _check_shape(values, layout, what)
        buffer = cls(memory, layout, device)
        buffer._put(values, what)
        return buffer

    @classmethod
    def zeros(
        cls,
        shape: Sequence[int],
        device: Device,
        dtype: Any = "float16",
        alloc_shape: Sequence[int] | None = None,
    ) -> NPUBuffer:
        """A zero-filled buffer in C order; ``dtype`` is a name, a numpy or a torch dtype."""
        layout = Layout.row_major(shape, numpy_dtype(dtype), alloc_shape)
        return cls(Memory(device.native.allocate(layout.nbytes)), layout, device)

    @property
    def shape(self) -> tuple[int, ...]:
        """Logical shape, without padding."""
        return self._layout.shape

    @property
    def alloc_shape(self) -> tuple[int, ...]:
        """Shape with padding, in logical order."""
        return self._layout.alloc_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Storage dtype (bfloat16 is ml_dtypes')."""
        return self._layout.dtype

    @property
    def size_bytes(self) -> int:
        """Bytes of device memory, padding included."""
        return self._memory.nbytes

    @property
    def layout(self) -> Layout:
        """Where the elements lie."""
        return self._layout

    @property
    def device(self) -> Device:
        """The device that holds the memory."""
        return self._device

    @property
    def native(self) -> _native.Buffer:
        """The native buffer. Valid as long as this object."""
        return self._memory.native

    @property
    def memory(self) -> Memory:
        """The piece of memory, which may be shared with the input that an output was written to."""
        return self._memory

    def write(self, array: Any) -> None:
        """Replace the content with an array of the same shape (converted as in ``from_numpy``)."""
        values = as_array(array, "array")
        _check_shape(values, self._layout, "array")
        self._put(values, "array")
        self.mark_changed()

    def mark_changed(self) -> None:
        """Tell executors that the content was changed through an exported view."""
        self.version += 1
        if self.is_weight:
            NPUBuffer.changes += 1

    def to_numpy(self, dtype: Any = None, spec: TensorSpec | EllipsisType | None = None) -> Array:
        """A copy on the host, without padding, C-contiguous.

        Its dtype is ``dtype``, else the IR dtype of ``spec``, else the storage dtype; ``...`` is
        no spec.
        """
        if isinstance(spec, EllipsisType):
            spec = None
        if spec is not None and tuple(spec.shape) != self.shape:
            raise ArgumentError(
                f"spec {spec.name!r} has shape {list(spec.shape)}, the buffer {list(self.shape)}"
            )
        view = self._host_view()
        if view is None:
            view = self._layout.view(self._memory.read())
        if dtype is not None:
            # Asked for by name: any conversion that numpy knows.
            return fetch(view, numpy_dtype(dtype))
        target = self.dtype if spec is None else numpy_dtype(spec.dtype)
        check_cast(view, target, "buffer")
        return fetch(view, target)

    def numpy_view(self) -> Array:
        """The tensor in place, as a strided view; ArgumentError if the host cannot see it."""
        view = self._host_view()
        if view is None:
            raise ArgumentError(
                f"memory of device {self._device.kind!r} is not visible to the host: use to_numpy()"
            )
        return view[...]

    def _host_view(self) -> Array | None:
        if self._view is None:
            host = self._memory.host()
            self._view = None if host is None else self._layout.view(host)
        return self._view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy or self._memory.host() is None:
            if copy is False:
                raise ValueError("this buffer cannot be seen without a copy")
            return self.to_numpy(dtype)
        view = self.numpy_view()
        return view if dtype is None else view.astype(dtype, copy=False)

    def __buffer__(self, flags: int) -> memoryview:
        view = self.numpy_view()
        # The buffer protocol has no letter for bfloat16: its bits go out.
        bits: Any = view.view(np.uint16) if dtype_name(view.dtype) == "bfloat16" else view
        return memoryview(bits)

    def __dlpack__(self, **arguments: Any) -> Any:
        try:
            view = self.numpy_view()
        except ArgumentError as error:
            raise BufferError(str(error)) from None
        return dlpack.export(view, **arguments)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (_DLPACK_CPU, 0)

    def __repr__(self) -> str:
        return f"NPUBuffer({self._layout}, {self._device.kind})"

    def _put(self, values: Array, what: str) -> None:
        """Convert into the memory; the padding is already zero and stays so."""
        view = self._host_view()
        if view is not None:
            store(values, view, what)
            return
        staging = np.zeros(self._layout.nbytes, np.uint8)
        store(values, self._layout.view(staging), what)
        self._memory.native.upload(0, staging)


def _check_shape(values: Array, layout: Layout, what: str) -> None:
    if values.shape != layout.shape:
        raise ArgumentError(
            f"{what}: shape {list(values.shape)} given, {list(layout.shape)} expected"
        )
