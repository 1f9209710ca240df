"""Lifted constants of an IR: nested lists in the JSON, or tensors in a file beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from npu_compiler.arrays import Array, numpy_dtype
from npu_compiler.dtypes import DTYPES, FLOATING
from npu_compiler.errors import IRError
from npu_compiler.program.schema import MAX_DIM, MAX_RANK

_NONFINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def read_constants(raw: object, folder: Path | None) -> dict[str, Array]:
    """The IR's ``constants`` as arrays: ``{name: {data, dtype[, shape]}}``, or ``{file, key}`` in
    place of data.

    Raises IRError naming the constant and what is wrong with it.
    """
    if not isinstance(raw, Mapping):
        raise IRError(f"the IR's field 'constants' must be a dict, found {type(raw).__name__}")
    return {str(name): _read_constant(str(name), entry, folder) for name, entry in raw.items()}


def _read_constant(name: str, entry: Any, folder: Path | None) -> Array:
    where = f"constant {name!r}"
    if not isinstance(entry, Mapping):
        raise IRError(f"{where} must be a dict, found {type(entry).__name__}")
    dtype = str(entry.get("dtype", "")).removeprefix("torch.")
    if dtype not in DTYPES:
        raise IRError(f"{where}: unknown dtype {dtype!r}; known are {', '.join(DTYPES)}")
    if "file" in entry:
        array = _read_file(where, str(entry["file"]), str(entry.get("key", name)), folder)
        if array.dtype != numpy_dtype(dtype):
            raise IRError(f"{where}: the IR says {dtype}, the file holds {array.dtype.name}")
    elif "data" in entry:
        try:
            wide = np.dtype(np.float64) if dtype in FLOATING else numpy_dtype(dtype)
            array = np.array(_numbers(entry["data"], dtype, where), dtype=wide)
        except (ValueError, TypeError, OverflowError) as error:
            raise IRError(f"{where}: data does not fit {dtype}: {error}") from error
        with np.errstate(over="ignore"):
            array = array.astype(numpy_dtype(dtype))
    else:
        raise IRError(f"{where} has neither data nor file")
    shape = entry.get("shape", list(array.shape))
    valid = isinstance(shape, (list, tuple)) and len(shape) <= MAX_RANK
    if not valid or not all(type(n) is int and 0 <= n <= MAX_DIM for n in shape):
        raise IRError(f"{where}: invalid shape {shape!r}")
    if prod(shape) != array.size:
        raise IRError(f"{where}: {array.size} values do not fill shape {list(shape)}")
    return array.reshape(shape)


def _numbers(value: Any, dtype: str, where: str) -> Any:
    if isinstance(value, (list, tuple)):
        return [_numbers(item, dtype, where) for item in value]
    if isinstance(value, str) and dtype in FLOATING and value in _NONFINITE:
        return _NONFINITE[value]
    if isinstance(value, bool):
        fits = dtype == "bool"
    elif isinstance(value, int):
        fits = dtype != "bool"
    else:
        fits = isinstance(value, float) and dtype in FLOATING
    if not fits:
        raise IRError(f"{where}: {value!r} is not a value of dtype {dtype}")
    return value


def _read_file(where: str, file: str, key: str, folder: Path | None) -> Array:
    from safetensors import SafetensorError, safe_open

    if folder is None or Path(file).name != file:
        raise IRError(f"{where}: the file {file!r} must lie beside the IR's JSON file")
    try:
        with safe_open(str(folder / file), framework="numpy") as tensors:
            found: Array = tensors.get_tensor(key)
            return found
    except (OSError, SafetensorError) as error:
        raise IRError(f"{where}: cannot read {key!r} from {file!r}: {error}") from error
