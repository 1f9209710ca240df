"""Constant tensors as JSON data, exact for every dtype.

A constant is ``{"data", "dtype", "shape"}``: nested lists of numbers, booleans for bool, ``[re,
im]`` pairs for complex, ``"inf"``, ``"-inf"`` and ``"nan"`` where JSON has no number. The shape
tells apart empty tensors.

Large constants lie beside the JSON in a safetensors file: ``{"file", "key", "dtype", "shape"}``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .attrs import attr_to_json, dtype_from_name, dtype_name
from .errors import SerializationError, WeightLoadError
from .reading import Reader
from .weight_loader import load_weights_safetensors

__all__ = ["constant_from_dict", "constant_to_dict", "large_constants", "pack_constants"]

_LARGE = 16_384
"""A constant with more elements goes into a file of its own when an IR is saved."""

# What safetensors can hold; the rest is written into the JSON whatever its size.
_FILE_DTYPES = frozenset(
    {
        torch.bool,
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    }
)

_NONFINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def constant_to_dict(
    tensor: torch.Tensor, file: str | None = None, key: str = ""
) -> dict[str, Any]:
    """Return a constant as plain data.

    Args:
        file, key: where the values are instead, for a constant that is kept in a file.

    Raises:
        SerializationError: the dtype has no numbers that JSON could hold (quantized types).
    """
    if tensor.is_quantized:
        raise SerializationError(
            f"a constant of dtype {tensor.dtype} cannot be written; dequantize it in the model"
        )
    described = {"dtype": dtype_name(tensor.dtype), "shape": list(tensor.shape)}
    if file is not None:
        return {"file": file, "key": key, **described}
    plain = tensor.detach().cpu()
    if plain.is_complex():
        values = torch.view_as_real(plain.resolve_conj().to(torch.complex128)).tolist()
    elif plain.is_floating_point():
        # Every floating-point type widens to float64 without loss.
        values = plain.to(torch.float64).tolist()
    else:
        values = plain.tolist()
    return {"data": attr_to_json(values), **described}


def large_constants(constants: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the constants that are better kept beside the JSON than in it."""
    return {
        name: value
        for name, value in constants.items()
        if value.numel() > _LARGE and value.dtype in _FILE_DTYPES
    }


def pack_constants(constants: Mapping[str, torch.Tensor]) -> bytes:
    """Return the content of a safetensors file with these constants.

    Raises:
        SerializationError: safetensors is not installed.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise SerializationError(
            "writing large constants needs safetensors: pip install safetensors"
        ) from error
    # Views and shared storage are not for files: each constant gets a copy of its own.
    return save({name: value.detach().cpu().clone() for name, value in constants.items()})


def _from_file(name: str, reader: Reader, folder: Path | None) -> torch.Tensor:
    file, key = reader.text("file"), reader.text("key", default=name)
    if folder is None or Path(file).name != file:
        raise SerializationError(
            f"constant {name!r}: its file {file!r} must lie beside the IR; "
            "load the IR from its file"
        )
    try:
        found = load_weights_safetensors(folder / file)
    except WeightLoadError as error:
        raise SerializationError(f"constant {name!r}: {error}") from error
    if key not in found:
        raise SerializationError(f"constant {name!r}: there is no {key!r} in file {file!r}")
    tensor = found[key]
    wanted = (reader.text("dtype"), reader.sizes("shape"))
    if (dtype_name(tensor.dtype), list(tensor.shape)) != wanted:
        raise SerializationError(
            f"constant {name!r}: file {file!r} holds {dtype_name(tensor.dtype)} "
            f"{list(tensor.shape)}, but the IR says {wanted[0]} {wanted[1]}"
        )
    return tensor


def constant_from_dict(name: str, data: Any, folder: Path | None = None) -> torch.Tensor:
    """Build the tensor that `constant_to_dict` described.

    Args:
        name: the constant, for error messages.
        folder: where a constant's file is looked for.

    Raises:
        SerializationError: the data does not fit the dtype and shape.
    """
    reader = Reader(data, f"constant {name!r}")
    if "file" in data:
        return _from_file(name, reader, folder)
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
