"""DLPack export of bfloat16: numpy exports the bits, and the type code is set afterwards."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from npu_runtime.convert import Array
from npu_runtime.dtypes import numpy_dtype

# kDLBfloat of dlpack.h.
_BFLOAT_CODE = 4


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("id", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    """The head of DLTensor, which is the head of an unversioned DLManagedTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
    )


_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype = ctypes.c_void_p
_get_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)


def export(array: Array, **arguments: Any) -> Any:
    """A DLPack capsule of a host array; ``arguments`` are those of ``__dlpack__``."""
    if array.dtype != numpy_dtype("bfloat16"):
        return array.__dlpack__(**arguments)
    # Without max_version numpy makes the unversioned capsule, whose layout _Tensor describes and
    # which every consumer still takes.
    arguments.pop("max_version", None)
    capsule = array.view(np.uint16).__dlpack__(**arguments)
    tensor = ctypes.cast(_get_pointer(capsule, b"dltensor"), ctypes.POINTER(_Tensor)).contents
    tensor.dtype.code = _BFLOAT_CODE
    return capsule
