"""How a model is called: paths of tensors and constants inside nested inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from .errors import ExecutionError
from .ir import IR, TensorMeta

__all__ = ["bind_inputs", "describe_signature", "flatten_outputs"]

_FLAT = ("args", "kwargs")


def _paths(spec: pytree.TreeSpec) -> list[str]:
    tree = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    return [_path_text(path) for path, _ in pytree.tree_flatten_with_path(tree)[0]]


def _path_text(path: Sequence[Any]) -> str:
    return str(pytree.keystr(tuple(path)))


def _call_paths(tree: Any) -> list[tuple[str, Any]]:
    """Return the leaves of ``(args, kwargs)`` with paths such as ``args[0]['mask']``."""
    leaves: list[tuple[Any, Any]] = pytree.tree_flatten_with_path(tree)[0]
    return [(_FLAT[path[0].idx] + _path_text(path[1:]), leaf) for path, leaf in leaves]


def describe_signature(
    in_spec: pytree.TreeSpec | None,
    inputs: Sequence[Any],
    out_spec: pytree.TreeSpec | None,
    outputs: Sequence[Any],
) -> dict[str, Any] | None:
    """Describe a call whose inputs or outputs are more than a flat row of tensors.

    Args:
        in_spec, out_spec: tree structures of ``(args, kwargs)`` and of the result.
        inputs, outputs: their leaves: `TensorMeta` or plain constants.

    Returns:
        ``{"inputs": [...], "outputs": [...]}``, or None where a row of tensors says it all.
    """
    if in_spec is None or out_spec is None:
        return None
    tree = pytree.tree_unflatten(list(range(in_spec.num_leaves)), in_spec)
    paths = [path for path, _ in _call_paths(tree)]
    nested = any(path.count("[") > 1 or "." in path for path in paths)
    constant = any(not isinstance(item, TensorMeta) for item in (*inputs, *outputs))
    if not nested and not constant:
        return None

    def entries(paths: list[str], items: Sequence[Any]) -> list[dict[str, Any]]:
        return [
            {"path": path, "name": item.name}
            if isinstance(item, TensorMeta)
            else {"path": path, "value": item}
            for path, item in zip(paths, items, strict=True)
        ]

    return {"inputs": entries(paths, inputs), "outputs": entries(_paths(out_spec), outputs)}


def flatten_outputs(result: Any) -> list[Any]:
    """Return the leaves of a model's result, tensors and constants, in the order of the IR."""
    return pytree.tree_leaves(result)


def bind_inputs(ir: IR, inputs: Any) -> list[torch.Tensor]:
    """Match what a caller passes with the graph inputs of an IR.

    Args:
        inputs: a tensor, a tuple or list of tensors in order, a dict by input name, or the very
            structure (nested containers, constants) that the model itself takes; a dict stands for
            keyword arguments.

    Returns:
        One tensor per graph input, in order. Shapes and dtypes are not checked here.

    Raises:
        ExecutionError: inputs are missing, unexpected, or differ from a constant fixed at export.
    """
    names = [tensor.name for tensor in ir.graph_inputs]
    if isinstance(inputs, torch.Tensor):
        inputs = (inputs,)
    if isinstance(inputs, Mapping):
        if set(inputs) == set(names):
            return [inputs[name] for name in names]
        args, kwargs = (), dict(inputs)
    elif isinstance(inputs, (tuple, list)):
        if len(inputs) == len(names) and all(isinstance(i, torch.Tensor) for i in inputs):
            return list(inputs)
        args, kwargs = tuple(inputs), {}
    else:
        raise ExecutionError(
            f"inputs must be a tensor, a tuple or a dict, found {type(inputs).__name__}; the graph "
            f"inputs are {names}"
        )
    if ir.signature is None:
        found = sorted(kwargs) if kwargs else f"{len(args)} values"
        raise ExecutionError(
            f"model {ir.model_name!r} takes {len(names)} tensors {names}, found {found}; pass them "
            "in this order or as a dict by name"
        )
    return _bind_structure(ir, args, kwargs)


def _bind_structure(ir: IR, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    expected = ir.signature["inputs"] if ir.signature else []
    found = dict(_call_paths((args, kwargs)))
    tensors: dict[str, Any] = {}
    for entry in expected:
        path = entry["path"]
        if path not in found:
            if "value" in entry:
                continue  # a constant that the caller leaves to the model's default
            raise ExecutionError(
                f"input {entry['name']!r} is missing: expected a tensor at {path}; found "
                f"{sorted(found)}"
            )
        value = found.pop(path)
        if "name" in entry:
            tensors[entry["name"]] = value
        elif isinstance(value, torch.Tensor) or value != entry["value"]:
            raise ExecutionError(
                f"input {path} was fixed to {entry['value']!r} when the model was exported, found "
                f"{value!r}; extract the IR again with this value"
            )
    if found:
        raise ExecutionError(f"unexpected inputs at {sorted(found)}")
    return [tensors[tensor.name] for tensor in ir.graph_inputs]
