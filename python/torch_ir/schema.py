"""Operators by name: resolving an ATen overload and reading its schema.

Nothing here knows any operator. What an argument is follows from its type in the schema.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch

from .errors import ValidationError
from .ir import GETITEM

__all__ = ["ArgKind", "OpArg", "OpSchema", "is_known_op", "op_schema", "read_schema"]


class ArgKind(Enum):
    """What an operator's argument takes."""

    TENSOR = "tensor"
    TENSOR_LIST = "tensor list"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class OpArg:
    """One argument of an operator, as its schema declares it."""

    name: str
    kind: ArgKind
    type_name: str
    optional: bool
    kwarg_only: bool
    has_default: bool
    default: Any
    aliased: bool
    written: bool


@dataclass(frozen=True, slots=True)
class OpSchema:
    """An operator that can be called, and what its schema says of arguments and results."""

    op: Callable[..., Any]
    op_type: str
    args: tuple[OpArg, ...]
    mutable: bool
    returns: tuple[str, ...]
    written: tuple[str, ...]
    composite: bool

    @property
    def returns_list(self) -> bool:
        """Whether the number of results depends on the arguments."""
        return any("List" in kind for kind in self.returns)

    @property
    def updates_statistics(self) -> bool:
        """Whether the operator may update running statistics, which no schema declares as
        written."""
        return any(arg.name == "running_mean" and not arg.written for arg in self.args)

    @property
    def viewed(self) -> tuple[str, ...]:
        """Names of the arguments that results share memory with, as the schema declares."""
        return tuple(arg.name for arg in self.args if arg.aliased)

    @property
    def may_return_operands(self) -> bool:
        """Whether results may share memory with an operand that the schema does not declare.

        Operators composed of others do (dropout in eval mode returns its input), and so do the
        "unsafe" ones, whose very point is a view that is not declared.
        """
        return self.composite or "unsafe" in self.op_type


def _read_argument(argument: Any) -> OpArg:
    shown = argument.real_type.annotation_str
    bare = shown[len("Optional[") : -1] if shown.startswith("Optional[") else shown
    if bare == "Tensor":
        kind = ArgKind.TENSOR
    elif bare in ("List[Tensor]", "List[Optional[Tensor]]"):
        kind = ArgKind.TENSOR_LIST
    else:
        kind = ArgKind.VALUE
    has_default = argument.has_default_value()
    return OpArg(
        name=argument.name,
        kind=kind,
        type_name=shown,
        optional=shown.startswith("Optional["),
        kwarg_only=argument.kwarg_only,
        has_default=has_default,
        default=argument.default_value if has_default else None,
        aliased=argument.alias_info is not None,
        written=argument.alias_info is not None and argument.alias_info.is_write,
    )


@functools.cache
def read_schema(op: torch._ops.OpOverload[..., Any]) -> OpSchema:
    """Return what the schema of an overload says."""
    schema = op._schema
    args = tuple(_read_argument(argument) for argument in schema.arguments)
    schema_name = f"{schema.name}.{schema.overload_name}".removesuffix(".")
    return OpSchema(
        op=op,
        op_type=str(op),
        args=args,
        mutable=schema.is_mutable,
        returns=tuple(result.type.annotation_str for result in schema.returns),
        written=tuple(arg.name for arg in args if arg.written),
        composite=torch._C._dispatch_has_kernel_for_dispatch_key(
            schema_name, torch._C.DispatchKey.CompositeImplicitAutograd
        ),
    )


@functools.cache
def op_schema(op_type: str) -> OpSchema:
    """Resolve an operator such as ``"aten.conv2d.default"`` through ``torch.ops``.

    Raises:
        ValidationError: there is no such operator in this process, or it is one that reads files.
    """
    parts = op_type.split(".")
    if len(parts) != 3 or not all(part.isidentifier() for part in parts):
        raise ValidationError(
            f"unknown op {op_type!r}: expected 'namespace.name.overload', e.g. 'aten.add.Tensor'"
        )
    namespace, name, overload = parts
    packet = getattr(getattr(torch.ops, namespace), name, None)
    op = getattr(packet, overload, None) if packet is not None else None
    if not isinstance(op, torch._ops.OpOverload):
        raise ValidationError(
            f"unknown op {op_type!r}: PyTorch {torch.__version__} has no such operator; if it is a "
            "custom op, import the package that defines it or add it with register_executor"
        )
    found = read_schema(op)
    if any(arg.name == "filename" for arg in found.args):
        raise ValidationError(f"op {op_type!r} is refused: an IR must not open files")
    return found


def is_known_op(op_type: str) -> bool:
    """Whether this process has an operator of this name, or it is the getitem of the IR."""
    if op_type == GETITEM:
        return True
    try:
        op_schema(op_type)
    except ValidationError:
        return False
    return True
