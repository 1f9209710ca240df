"""Signatures of operators, and how a node's inputs and attributes are bound to them.

A signature is written like ``"input:T, weight:T, bias:T?, stride=1"``: ``T`` a tensor (or a number
standing in its place where the operator takes one), ``T?`` an optional tensor, ``T[]`` a list of
tensors, ``name`` a required attribute, ``name=literal`` one with a default. Signatures whose
defaults hold commas separate arguments by semicolons.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from npu_compiler.errors import IRError
from npu_compiler.graph import Value
from npu_compiler.ops.arguments import is_number

LIST_SIZES = "_tensor_list_sizes"
LIST_MASKS = "_tensor_list_none_masks"
MUTATES = "_mutates"
STRIDES = "_strides"
INTERNAL_ATTRS = frozenset({LIST_SIZES, LIST_MASKS, MUTATES, STRIDES})
MAX_LIST = 1 << 16
REQUIRED = object()


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a signature; ``kind``: ``T``, ``T?``, ``T[]`` or ``attr``."""

    name: str
    kind: str
    default: Any = REQUIRED


def parse_signature(text: str) -> tuple[Parameter, ...]:
    """The arguments that a signature text declares."""
    found = []
    for part in filter(None, (p.strip() for p in text.split(";" if ";" in text else ","))):
        name, equals, default = part.partition("=")
        name, colon, kind = name.strip().partition(":")
        if colon:
            found.append(Parameter(name, kind, None if kind == "T?" else REQUIRED))
        else:
            value = ast.literal_eval(default.strip()) if equals else REQUIRED
            found.append(Parameter(name, "attr", value))
    return tuple(found)


def bind_arguments(
    where: str,
    parameters: Sequence[Parameter],
    inputs: Sequence[Value],
    attrs: Mapping[str, Any],
) -> dict[str, Any]:
    """Arguments by name; ``where`` names the node. Raises IRError for what does not fit."""
    known = {p.name for p in parameters}
    for key in attrs:
        if key not in known and key not in INTERNAL_ATTRS:
            raise IRError(f"{where}: it has no argument {key!r}; its arguments are {sorted(known)}")
    sizes = attrs.get(LIST_SIZES)
    masks = attrs.get(LIST_MASKS)
    rest = list(inputs)
    args: dict[str, Any] = {}
    for p in parameters:
        if p.name in attrs:
            args[p.name] = _attribute(where, p, attrs[p.name])
        elif p.kind == "T[]":
            args[p.name] = _take_list(where, p.name, rest, sizes, masks)
        elif p.kind in ("T", "T?") and rest:
            args[p.name] = rest.pop(0)
        elif p.default is not REQUIRED:
            args[p.name] = p.default
        else:
            raise IRError(f"{where}: argument {p.name!r} is in neither inputs nor attrs")
    if rest:
        raise IRError(
            f"{where}: it takes {len(inputs) - len(rest)} tensors here, "
            f"but the node has {len(inputs)} inputs"
        )
    return args


def _attribute(where: str, p: Parameter, value: Any) -> Any:
    """An argument given as an attribute: in a tensor's place only a number (or None) may stand."""
    if p.kind == "attr" or (p.kind == "T?" and value is None) or is_number(value):
        return value
    raise IRError(f"{where}: argument {p.name!r} must be a tensor or a number, found {value!r}")


def _take_list(
    where: str, name: str, rest: list[Value], sizes: Any, masks: Any
) -> list[Value | None]:
    if sizes is None:
        taken: list[Value | None] = list(rest)
        rest.clear()
        return taken
    well_formed = isinstance(sizes, list) and len(sizes) == 1 and isinstance(sizes[0], int)
    if not well_formed or not 0 <= sizes[0] <= MAX_LIST:
        raise IRError(f"{where}: {LIST_SIZES} must hold one size, found {sizes!r}")
    mask = masks[0] if isinstance(masks, list) and masks else [False] * sizes[0]
    if not isinstance(mask, list) or len(mask) != sizes[0]:
        raise IRError(f"{where}: {LIST_MASKS} must hold {sizes[0]} booleans, found {masks!r}")
    if sum(not absent for absent in mask) > len(rest):
        raise IRError(f"{where}: argument {name!r} lists {sizes[0]} tensors, {len(rest)} are left")
    return [None if absent else rest.pop(0) for absent in mask]
