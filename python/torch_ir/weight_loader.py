"""Loads weights from files and matches them with the weights that an IR names."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from .attrs import dtype_name
from .errors import WeightFileNotFoundError, WeightLoadError
from .ir import IR, TensorMeta

__all__ = [
    "load_weights",
    "load_weights_pt",
    "load_weights_safetensors",
    "match_weights",
    "validate_weights_against_ir",
]

_PT_SUFFIXES = (".pt", ".pth", ".bin")
_INDEX_NAME = "model.safetensors.index.json"
_SHOWN = 5


def _existing(path: str | PathLike[str]) -> Path:
    file = Path(path)
    if not file.exists():
        raise WeightFileNotFoundError(f"weights file not found: {file}")
    return file


def load_weights(path: str | PathLike[str]) -> dict[str, torch.Tensor]:
    """Load a weights file by its suffix: .pt, .pth or .bin, .safetensors, or a sharded directory.

    Returns:
        Tensors on the CPU by ``state_dict`` key.

    Raises:
        WeightFileNotFoundError: there is no such file.
        WeightLoadError: the suffix is unknown or the content is not weights.
    """
    file = _existing(path)
    if file.is_dir():
        return _load_sharded(_existing(file / _INDEX_NAME))
    if file.name.endswith(".index.json"):
        return _load_sharded(file)
    if file.suffix in _PT_SUFFIXES:
        return load_weights_pt(file)
    if file.suffix == ".safetensors":
        return load_weights_safetensors(file)
    raise WeightLoadError(
        f"weights file {file}: unknown suffix {file.suffix!r}; expected one of "
        f"{', '.join((*_PT_SUFFIXES, '.safetensors'))} or a directory with {_INDEX_NAME}"
    )


def load_weights_pt(path: str | PathLike[str]) -> dict[str, torch.Tensor]:
    """Load a ``state_dict`` saved with ``torch.save``; nothing but tensors is ever unpickled.

    Raises:
        WeightFileNotFoundError: there is no such file.
        WeightLoadError: the file is not a PyTorch file, or holds other things than a dict of
            tensors.
    """
    file = _existing(path)
    try:
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()
        raise WeightLoadError(
            f"weights file {file}: not a PyTorch file with plain tensors "
            f"({reason[0] if reason else type(error).__name__}); save it with "
            "torch.save(model.state_dict(), ...)"
        ) from error
    if not isinstance(loaded, Mapping):
        raise WeightLoadError(
            f"weights file {file}: expected a dict of tensors, found {type(loaded).__name__}; save "
            "it with torch.save(model.state_dict(), ...)"
        )
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise WeightLoadError(
                f"weights file {file}: entry {name!r} is a {type(value).__name__}, not a tensor; "
                "pass the state_dict itself if the file is a larger checkpoint"
            )
    return dict(loaded)


def load_weights_safetensors(path: str | PathLike[str]) -> dict[str, torch.Tensor]:
    """Load a safetensors file.

    Raises:
        WeightFileNotFoundError: there is no such file.
        WeightLoadError: the file is not a safetensors file, or safetensors is not installed.
    """
    file = _existing(path)
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise WeightLoadError(
            f"weights file {file}: reading it needs the safetensors package: pip install "
            "safetensors"
        ) from error
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightLoadError(f"weights file {file}: not a safetensors file ({error})") from error


def _load_sharded(index: Path) -> dict[str, torch.Tensor]:
    try:
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = {str(name): str(shard) for name, shard in shards.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightLoadError(
            f"weights index {index}: expected a JSON object with a weight_map"
        ) from error
    weights: dict[str, torch.Tensor] = {}
    for shard in sorted(set(names.values())):
        if Path(shard).name != shard:
            raise WeightLoadError(
                f"weights index {index}: shard {shard!r} must be a file name, not a path"
            )
        content = load_weights_safetensors(index.parent / shard)
        for name in (name for name, where in names.items() if where == shard):
            if name not in content:
                raise WeightLoadError(f"weights index {index}: {name!r} is not in shard {shard!r}")
            weights[name] = content[name]
    return weights


def validate_weights_against_ir(weights: Mapping[str, torch.Tensor], ir: IR) -> list[str]:
    """Compare weights with what an IR expects.

    Returns:
        One message per weight that is missing, unexpected, or has another shape or dtype; empty if
        all is well. A weight that no node reads (BatchNorm's counter) and the second name of a tied
        weight may be missing.
    """
    used = {tensor.name for node in ir.nodes for tensor in node.inputs}
    used.update(tensor.name for tensor in ir.graph_outputs)
    return _problems(ir, weights, ir.constants, used)


def _same_tensor_names(ir: IR) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, first in ir.tied_weights.items():
        groups.setdefault(first, [first]).append(key)
    return {key: group for group in groups.values() for key in group}


def _find(
    key: str,
    weights: Mapping[str, torch.Tensor],
    constants: Mapping[str, torch.Tensor],
    tied: dict[str, list[str]],
) -> torch.Tensor | None:
    for name in (key, *tied.get(key, ())):
        if name in weights:
            return weights[name]
        if name in constants:
            return constants[name]
    return None


def _problems(
    ir: IR,
    weights: Mapping[str, torch.Tensor],
    constants: Mapping[str, torch.Tensor],
    used: set[str],
) -> list[str]:
    tied = _same_tensor_names(ir)
    used_keys = {ir.weight_name_mapping.get(name) for name in used}
    problems = []
    for meta in ir.weights:
        value = _find(meta.name, weights, constants, tied)
        if value is None:
            if meta.name in used_keys:
                problems.append(f"missing weight {meta.name!r} ({meta.dtype} {list(meta.shape)})")
        else:
            problems += _misfits(meta, value)
    known = {*ir.weight_name_mapping, *ir.weight_name_mapping.values(), *tied}
    known.update(meta.name for meta in ir.weights)
    problems += [f"unexpected weight {name!r}" for name in weights if name not in known]
    return problems


def _misfits(meta: TensorMeta, value: Any) -> list[str]:
    if not isinstance(value, torch.Tensor):
        return [f"weight {meta.name!r} is a {type(value).__name__}, expected a tensor"]
    if value.is_meta:
        return [f"weight {meta.name!r} is on the meta device and has no values"]
    problems = []
    if tuple(value.shape) != tuple(meta.shape):
        problems.append(
            f"weight {meta.name!r} has shape {list(value.shape)}, expected {list(meta.shape)}"
        )
    if dtype_name(value.dtype) != meta.dtype:
        problems.append(
            f"weight {meta.name!r} has dtype {dtype_name(value.dtype)}, expected {meta.dtype}"
        )
    return problems


def match_weights(
    ir: IR,
    weights: Mapping[str, torch.Tensor],
    constants: Mapping[str, torch.Tensor],
    used: set[str],
) -> dict[str, torch.Tensor]:
    """Return a tensor for each placeholder of the IR in ``used``.

    Args:
        weights: tensors by ``state_dict`` key.
        constants: tensors by constant name (or placeholder).
        used: names of the tensors that the graph reads.

    Raises:
        WeightLoadError: weights are missing, unexpected or misshapen; the message lists them.
    """
    if not isinstance(weights, Mapping):
        raise WeightLoadError(
            "weights must be a dict of tensors such as model.state_dict(), found "
            f"{type(weights).__name__}"
        )
    problems = _problems(ir, weights, constants, used)
    tied = _same_tensor_names(ir)
    found: dict[str, torch.Tensor] = {}
    for placeholder, key in ir.weight_name_mapping.items():
        value = constants.get(placeholder)
        if value is None:
            value = _find(key, weights, constants, tied)
        if value is not None:
            found[placeholder] = value
        elif placeholder in used and not any(meta.name == key for meta in ir.weights):
            problems.append(f"missing constant {key!r}; pass it in constants")
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise WeightLoadError(
            f"weights do not fit model {ir.model_name!r}: {'; '.join(problems[:_SHOWN])}{more}; "
            "use the state_dict of the model that the IR was extracted from"
        )
    return found
