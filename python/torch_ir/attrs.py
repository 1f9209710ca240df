"""Lossless encoding of operator attributes as plain data.

An attribute in an IR is a Python ``None``, ``bool``, ``int``, ``float``, ``complex``, ``str`` or a
list of these. Torch's own enumerations are stored as their short names: ``torch.float32`` as
``"float32"``, ``torch.preserve_format`` as ``"preserve_format"``, ``torch.strided`` as
``"strided"`` and a device as ``"cpu"``. The schema of the operator says which strings to turn back
(`decode_for_type`).

JSON has no infinities, NaN or complex numbers. There they become ``"inf"``, ``"-inf"``, ``"nan"``
and ``{"complex": [re, im]}``; a genuine string spelled like one of the three is escaped as
``{"str": "inf"}``.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from .errors import ConversionError, SerializationError

__all__ = [
    "attr_from_json",
    "attr_to_json",
    "decode_for_type",
    "dtype_from_name",
    "dtype_name",
    "encode_attr",
    "same_value",
]

_NONFINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}

_DTYPES: dict[str, torch.dtype] = {
    str(value).removeprefix("torch."): value
    for value in vars(torch).values()
    if isinstance(value, torch.dtype)
}


def _names_of(kind: type) -> dict[str, Any]:
    found = {str(v).removeprefix("torch."): v for v in vars(torch).values() if isinstance(v, kind)}
    return found


_LAYOUTS = _names_of(torch.layout)
_MEMORY_FORMATS = _names_of(torch.memory_format)


def dtype_name(dtype: torch.dtype) -> str:
    """Return the short name of a dtype, e.g. ``"float32"``."""
    return str(dtype).removeprefix("torch.")


def dtype_from_name(name: str) -> torch.dtype:
    """Return the dtype called ``name``.

    Raises:
        SerializationError: no such dtype exists.
    """
    dtype = _DTYPES.get(name)
    if dtype is None:
        raise SerializationError(
            f"unknown dtype {name!r}; expected a torch dtype name such as 'float32' or 'int64'"
        )
    return dtype


def encode_attr(value: Any, where: str) -> Any:
    """Turn an argument found in an exported graph into plain attribute data.

    Args:
        value: the argument; torch dtypes, layouts, memory formats and devices are named.
        where: what the argument belongs to, for the error message.

    Raises:
        ConversionError: the value cannot be represented (a symbolic size, a generator, an object).
    """
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        # SymInt and friends are not subclasses of these, so only static values get here.
        return value
    if isinstance(value, (torch.dtype, torch.layout, torch.memory_format)):
        return str(value).removeprefix("torch.")
    if isinstance(value, torch.device):
        # A meta tensor stands for "not in memory yet": the IR describes the model as it runs.
        return "cpu" if value.type == "meta" else str(value)
    if isinstance(value, (list, tuple)):
        return [encode_attr(item, where) for item in value]
    if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
        raise ConversionError(
            f"{where}: the value {value} is only known at run time; only static shapes are "
            "supported, so export without dynamic shapes and avoid data-dependent sizes"
        )
    raise ConversionError(
        f"{where}: cannot represent a value of type {type(value).__name__} in the IR; expected a "
        "number, string, dtype, layout, memory format, device or a list of them"
    )


def attr_to_json(value: Any) -> Any:
    """Make attribute data strict JSON: no infinities, NaN or complex numbers. Lossless."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, complex):
        return {"complex": [attr_to_json(value.real), attr_to_json(value.imag)]}
    if isinstance(value, str) and value in _NONFINITE:
        return {"str": value}
    if isinstance(value, (list, tuple)):
        return [attr_to_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): attr_to_json(item) for key, item in value.items()}
    return value


def attr_from_json(value: Any, where: str) -> Any:
    """Invert `attr_to_json`.

    Raises:
        SerializationError: ``value`` holds an object that is neither ``complex`` nor ``str``.
    """
    if isinstance(value, str):
        return _NONFINITE.get(value, value)
    if isinstance(value, list):
        return [attr_from_json(item, where) for item in value]
    if isinstance(value, dict):
        if list(value) == ["complex"] and isinstance(value["complex"], list):
            parts = [attr_from_json(part, where) for part in value["complex"]]
            if len(parts) == 2 and all(
                isinstance(p, (int, float)) and not isinstance(p, bool) for p in parts
            ):
                return complex(parts[0], parts[1])
        if list(value) == ["str"] and isinstance(value["str"], str):
            return value["str"]
        raise SerializationError(
            f"{where}: unexpected object with keys {sorted(value)}; "
            'an attribute object must be {"complex": [re, im]} or {"str": text}'
        )
    return value


def decode_for_type(value: Any, type_name: str, where: str) -> Any:
    """Turn attribute data into what an operator's argument of schema type ``type_name`` takes.

    Args:
        value: attribute data as stored in an IR.
        type_name: annotation of the schema argument, e.g. ``"Optional[ScalarType]"``.
        where: what the attribute belongs to, for the error message.

    Raises:
        SerializationError: a name is unknown.
    """
    inner = type_name.removeprefix("Optional[").rstrip("]") if "[" in type_name else type_name
    if value is None or inner not in ("ScalarType", "Layout", "MemoryFormat", "Device"):
        return value
    if not isinstance(value, str):
        raise SerializationError(f"{where}: expected the name of a {inner}, found {value!r}")
    if inner == "ScalarType":
        if value not in _DTYPES:
            raise SerializationError(f"{where}: unknown dtype {value!r}")
        return _DTYPES[value]
    if inner == "Device":
        try:
            return torch.device(value)
        except RuntimeError as error:
            raise SerializationError(f"{where}: unknown device {value!r}") from error
    table = _LAYOUTS if inner == "Layout" else _MEMORY_FORMATS
    if value not in table:
        raise SerializationError(
            f"{where}: unknown {inner} {value!r}; expected one of {sorted(table)}"
        )
    return table[value]


def same_value(left: Any, right: Any) -> bool:
    """Whether two attribute values are identical, type included (``1`` and ``1.0`` differ)."""
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same_value, left, right))
    # repr tells -0.0 from 0.0 and makes NaN equal to itself.
    return type(left) is type(right) and repr(left) == repr(right)
