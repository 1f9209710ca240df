"""Traces a model with torch.export, on the meta device or on the CPU, and extracts its IR."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from .collector import full_collections_postponed
from .converter import convert_exported_program
from .errors import ExportError, TorchIRWarning
from .ir import IR

__all__ = [
    "export_model",
    "extract_ir",
    "get_model_name",
    "is_meta_module",
    "is_meta_tensor",
    "validate_inputs_meta",
    "validate_meta_device",
]


def is_meta_tensor(tensor: object) -> bool:
    """Whether something is a tensor on the meta device."""
    return isinstance(tensor, torch.Tensor) and tensor.is_meta


def is_meta_module(module: torch.nn.Module) -> bool:
    """Whether all parameters and buffers of a module, if any, are on the meta device."""
    return all(tensor.is_meta for _, tensor in _named_tensors(module))


def validate_meta_device(module: torch.nn.Module) -> None:
    """Check that a module is on the meta device.

    Raises:
        ExportError: it is not; the message names a parameter or buffer.
    """
    for name, tensor in _named_tensors(module):
        if not tensor.is_meta:
            raise ExportError(
                f"model {type(module).__name__}: {name!r} is on {tensor.device}, but in strict "
                "mode the model must be on meta device; create it under `with "
                "torch.device('meta')` or pass strict=False"
            )


def validate_inputs_meta(inputs: Any) -> None:
    """Check that all tensors among the inputs are on the meta device.

    Raises:
        ExportError: one is not.
    """
    for path, leaf in pytree.tree_flatten_with_path(inputs)[0]:
        if isinstance(leaf, torch.Tensor) and not leaf.is_meta:
            raise ExportError(
                f"input {pytree.keystr(path)} is on {leaf.device}, but in strict mode inputs must "
                "be on meta device; create them with device='meta' or pass strict=False"
            )


def get_model_name(model: torch.nn.Module, name: str | None = None) -> str:
    """Return ``name`` if given, else the name of the model's class."""
    return name if name else type(model).__name__


def _named_tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _as_call(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs as arguments and keyword arguments. A tensor that is given for several of them
    becomes several tensors: torch.export would take them for one and the same input.
    """
    seen: set[int] = set()

    def distinct(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and id(value) in seen:
            return value.detach()
        seen.add(id(value))
        return value

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(inputs, Mapping):
        kwargs = dict(inputs)
    elif isinstance(inputs, (tuple, list)):
        args = tuple(inputs)
    else:
        args = (inputs,)
    call: tuple[tuple[Any, ...], dict[str, Any]] = pytree.tree_map(distinct, (args, kwargs))
    return call


@contextmanager
def _without_meta(
    model: torch.nn.Module, inputs: tuple[tuple[Any, ...], dict[str, Any]]
) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Let meta tensors stand in as CPU tensors without data while the model is traced.

    A graph traced on the meta device is littered with that device, and a model that makes a tensor
    of its own (``torch.arange(n)``) mixes it with the CPU and fails. Fake CPU tensors need no
    memory either.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fakes: dict[int, torch.Tensor] = {}

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in fakes:
            with mode:
                made = torch.empty_strided(
                    tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu"
                )
            if isinstance(tensor, torch.nn.Parameter):
                made = torch.nn.Parameter(made, requires_grad=tensor.requires_grad)
            fakes[id(tensor)] = made
        return fakes[id(tensor)]

    # Every place that holds a meta tensor: parameters, buffers and plain attributes.
    places: list[tuple[dict[str, Any], str, Any]] = []
    for module in model.modules():
        tables: list[dict[str, Any]] = [module._parameters, module._buffers, vars(module)]
        for table in tables:
            places += [
                (table, name, value) for name, value in table.items() if is_meta_tensor(value)
            ]
    try:
        for table, name, value in places:
            table[name] = fake(value)
        yield pytree.tree_map(lambda leaf: fake(leaf) if is_meta_tensor(leaf) else leaf, inputs)
    finally:
        for table, name, value in places:
            table[name] = value


def export_model(model: torch.nn.Module, inputs: Any, *, strict: bool = True) -> ExportedProgram:
    """Trace a model with ``torch.export``.

    Args:
        inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments.
        strict: require the model and its inputs to be on the meta device.

    Raises:
        ExportError: the model or an input is not on the meta device in strict mode, or tracing
            failed, for example because control flow depends on the values of tensors.
    """
    if not isinstance(model, torch.nn.Module):
        raise ExportError(
            f"expected a torch.nn.Module, found {type(model).__name__}; wrap a function in a module"
        )
    if strict:
        validate_meta_device(model)
        validate_inputs_meta(inputs)
    name = type(model).__name__
    if any(module.training for module in model.modules()):
        warnings.warn(
            f"model {name} is in train mode: dropout and batch norm will be traced as in "
            "training; call model.eval() first",
            TorchIRWarning,
            stacklevel=2,
        )
    try:
        with full_collections_postponed(), _without_meta(model, _as_call(inputs)) as call:
            args, kwargs = call
            return torch.export.export(model, args, kwargs, strict=False)
    except Exception as error:
        raise ExportError(f"torch.export cannot trace model {name}: {_explain(error)}") from error


def _explain(error: Exception) -> str:
    text = str(error).strip()
    first = text.splitlines()[0] if text else ""
    kind = type(error).__name__
    if "DataDependent" in kind or "data-dependent" in text.lower():
        first += (
            " (its control flow or shapes depend on the values of tensors; use tensor operators "
            "such as torch.where instead)"
        )
    return f"{kind}: {first}"


def extract_ir(
    model: torch.nn.Module,
    example_inputs: Any,
    *,
    model_name: str | None = None,
    strict: bool = False,
) -> IR:
    """Extract the IR of a model.

    Args:
        model: a module in eval mode, on the meta device (no weights in memory) or an ordinary CPU
            one.
        example_inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments;
            their shapes and dtypes become those of the IR, constants among them are fixed.
        model_name: name stored in the IR; the model's class by default.
        strict: raise when a converter registered with `register_op` fails, instead of converting
            the operator by its schema with a warning.

    Raises:
        ExportError: ``torch.export`` cannot trace the model.
        ConversionError: the traced graph has dynamic shapes or values that the IR cannot hold.
    """
    name = get_model_name(model, model_name)
    with full_collections_postponed():
        exported = export_model(model, example_inputs, strict=False)
        return convert_exported_program(exported, model_name=name, strict=strict)
