"""Constant tensors as JSON data, exact for every dtype.

A constant is ``{"data", "dtype", "shape"}``: nested lists of numbers, booleans for bool, ``[re,
im]`` pairs for complex, ``"inf"``, ``"-inf"`` and ``"nan"`` where JSON has no number. The shape
tells apart empty tensors.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from .attrs import attr_to_json, dtype_from_name, dtype_name
from .errors import SerializationError
from .reading import Reader

__all__ = ["constant_from_dict", "constant_to_dict"]

_NONFINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def constant_to_dict(tensor: torch.Tensor) -> dict[str, Any]:
    """Return a constant as plain data.

    Raises:
        SerializationError: the dtype has no numbers that JSON could hold (quantized types).
    """
    if tensor.is_quantized:
        raise SerializationError(
            f"a constant of dtype {tensor.dtype} cannot be written; dequantize it in the model"
        )
    plain = tensor.detach().cpu()
    if plain.is_complex():
        values = torch.view_as_real(plain.resolve_conj().to(torch.complex128)).tolist()
    elif plain.is_floating_point():
        # Every floating-point type widens to float64 without loss.
        values = plain.to(torch.float64).tolist()
    else:
        values = plain.tolist()
    return {
        "data": attr_to_json(values),
        "dtype": dtype_name(tensor.dtype),
        "shape": list(tensor.shape),
    }


def constant_from_dict(name: str, data: Any) -> torch.Tensor:
    """Build the tensor that `constant_to_dict` described.

    Args:
        name: the constant, for error messages.

    Raises:
        SerializationError: the data does not fit the dtype and shape.
    """
    reader = Reader(data, f"constant {name!r}")
    dtype_text = reader.text("dtype")
    try:
        dtype = dtype_from_name(dtype_text)
    except SerializationError as error:
        raise SerializationError(f"constant {name!r}: {error}") from error
    values = data.get("data")
    if "data" not in data:
        raise SerializationError(f"constant {name!r}: missing field 'data'")
    shape = reader.sizes("shape") if "shape" in data else None
    is_float = dtype.is_complex or dtype.is_floating_point
    wide = torch.float64 if is_float else dtype
    try:
        flat = torch.tensor(_numbers(values, name, dtype), dtype=wide)
        if dtype.is_complex:
            flat = torch.view_as_complex(flat.reshape(*flat.shape[:-1], 2))
        return flat.to(dtype).reshape(shape if shape is not None else flat.shape)
    except (RuntimeError, TypeError, ValueError, OverflowError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise SerializationError(
            f"constant {name!r}: data does not fit dtype {dtype_name(dtype)} and shape {shape}: "
            f"{reason}"
        ) from error


def _numbers(value: Any, name: str, dtype: torch.dtype) -> Any:
    """Return nested lists of numbers, refusing any other content and silent conversions."""
    if isinstance(value, (list, tuple)):
        return [_numbers(item, name, dtype) for item in value]
    is_float = dtype.is_floating_point or dtype.is_complex
    if isinstance(value, str) and is_float and value in _NONFINITE:
        return _NONFINITE[value]
    if isinstance(value, bool):
        fits = dtype is torch.bool
    else:
        fits = dtype is not torch.bool and isinstance(value, (int, float) if is_float else int)
    if fits:
        return value
    raise SerializationError(
        f"constant {name!r}: {value!r} is not a value of dtype {dtype_name(dtype)}"
    )
