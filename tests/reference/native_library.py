"""The native test library: one kernel at a time on the reference device, without a program."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from numpy.typing import NDArray

from npu_compiler.dtypes import DTYPES
from npu_compiler.kernels.record import Kernel
from tests.native_build import native_program

Array = NDArray[Any]


class NativeError(Exception):
    """What the reference device threw."""


class View(ctypes.Structure):
    """An operand: first element, dtype id, shape and strides in elements."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_uint32),
        ("rank", ctypes.c_uint32),
        ("shape", ctypes.c_uint32 * 8),
        ("strides", ctypes.c_int64 * 8),
    )


class Message(ctypes.Structure):
    """Room for an error message."""

    _fields_ = (("text", ctypes.c_char_p), ("size", ctypes.c_size_t))


@cache
def library() -> ctypes.CDLL:
    """The loaded library: NPU_SIM_REFERENCE_TEST_LIBRARY if set, else built from this checkout."""
    path = os.environ.get("NPU_SIM_REFERENCE_TEST_LIBRARY")
    return ctypes.CDLL(path or str(native_program("npu_reference_test")))


def call(name: str, *arguments: object) -> None:
    """Call a function of the library that ends in a Message; NativeError where it fails."""
    text = ctypes.create_string_buffer(1000)
    message = Message(ctypes.cast(text, ctypes.c_char_p), len(text))
    if getattr(library(), name)(*arguments, ctypes.byref(message)) != 0:
        raise NativeError(text.value.decode())


def pointer(array: Array) -> ctypes.c_void_p:
    """The address of an array's first element."""
    return ctypes.c_void_p(array.__array_interface__["data"][0])


def view_of(array: Array | None) -> View:
    """How the device sees an array; None is an absent operand."""
    if array is None:
        return View()
    shape = (ctypes.c_uint32 * 8)(*array.shape)
    strides = (ctypes.c_int64 * 8)(*(s // array.itemsize for s in array.strides))
    return View(pointer(array), DTYPES[array.dtype.name].id, array.ndim, shape, strides)


def run_kernel(
    kernel: Kernel,
    operands: Mapping[str, Array | None],
    fields: Mapping[str, int | float | Sequence[int | float]],
    *,
    reverse: bool = False,
    threads: int = 2,
    schedule: str = "",
) -> None:
    """Run a kernel over arrays of any strides; absent operands may be left out.

    With ``schedule`` it runs as a GPU would, which must choose that one. Raises NativeError where
    it does not, and for what the device refuses or finds while it runs.
    """
    views = (View * len(kernel.operands))(*(view_of(operands.get(o.name)) for o in kernel.operands))
    block = kernel.pack_fields(fields)
    call("npu_test_run", kernel.id, views, block, int(reverse), threads, schedule.encode())
