"""Splits an operator's arguments into input tensors and attributes, and puts them together again.

Both directions follow the operator's schema; `torch_ir.ir` states the rule in words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .attrs import decode_for_type, encode_attr, same_value
from .errors import ConversionError, ValidationError
from .ir import INTERNAL_ATTRS, TENSOR_LIST_NONE_MASKS, TENSOR_LIST_SIZES, TensorMeta
from .schema import ArgKind, OpArg, OpSchema

__all__ = ["Slot", "bind_arguments", "split_arguments"]


@dataclass(frozen=True, slots=True)
class Slot:
    """Stands for input number ``index`` of a node in an argument structure."""

    index: int


def _by_name(
    name: str, schema: OpSchema, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    positional = [arg for arg in schema.args if not arg.kwarg_only]
    if len(args) > len(positional):
        raise ConversionError(
            f"node {name!r}: {schema.op_type} takes {len(positional)} positional arguments, found "
            f"{len(args)}"
        )
    given = {arg.name: value for arg, value in zip(positional, args, strict=False)}
    known = {arg.name for arg in schema.args}
    for key, value in kwargs.items():
        if key not in known:
            raise ConversionError(f"node {name!r}: {schema.op_type} has no argument {key!r}")
        given[key] = value
    return given


def split_arguments(
    name: str, schema: OpSchema, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[TensorMeta], dict[str, Any]]:
    """Split the arguments of a call into the node's inputs and its attributes.

    Args:
        name: the node, for error messages.
        args: positional arguments; tensors are `TensorMeta`.
        kwargs: keyword arguments.

    Returns:
        The tensors in schema order, and the other arguments by name without those at their default.

    Raises:
        ConversionError: an argument cannot be represented, or the schema does not know it.
    """
    given = _by_name(name, schema, args, kwargs)
    inputs: list[TensorMeta] = []
    attrs: dict[str, Any] = {}
    absent: list[str] = []
    sizes: list[int] = []
    masks: list[list[bool]] = []

    def take(tensor: TensorMeta) -> None:
        # An absent tensor must be said once another tensor follows: inputs are positional.
        attrs.update(dict.fromkeys(absent))
        absent.clear()
        inputs.append(tensor)

    for arg in schema.args:
        if arg.name not in given:
            if arg.kind is not ArgKind.VALUE:
                absent.append(arg.name)
            continue
        value = given[arg.name]
        if arg.kind is ArgKind.TENSOR and isinstance(value, TensorMeta):
            take(value)
        elif arg.kind is ArgKind.TENSOR_LIST and isinstance(value, (list, tuple)):
            sizes.append(len(value))
            masks.append([item is None for item in value])
            for item in value:
                if isinstance(item, TensorMeta):
                    take(item)
                elif item is not None:
                    raise ConversionError(
                        f"node {name!r}: argument {arg.name!r} of {schema.op_type} must list "
                        f"tensors, found {item!r}"
                    )
        elif arg.kind is not ArgKind.VALUE and value is None and arg.has_default:
            absent.append(arg.name)
        elif not (arg.has_default and same_value(value, arg.default)):
            where = f"node {name!r}: argument {arg.name!r} of {schema.op_type}"
            attrs[arg.name] = encode_attr(value, where)
    if sizes:
        attrs[TENSOR_LIST_SIZES] = sizes
    if any(any(mask) for mask in masks):
        attrs[TENSOR_LIST_NONE_MASKS] = masks
    return inputs, attrs


class _Lists:
    """Reads the sizes and masks of a node's tensor lists, checking them against the schema."""

    def __init__(
        self, name: str, schema: OpSchema, num_inputs: int, attrs: Mapping[str, Any]
    ) -> None:
        self.name = name
        self.sizes: list[int] = attrs.get(TENSOR_LIST_SIZES, [])
        self.masks: list[list[bool]] | None = attrs.get(TENSOR_LIST_NONE_MASKS)
        self.used = 0
        sizes_ok = isinstance(self.sizes, list) and all(
            isinstance(size, int) and not isinstance(size, bool) and size >= 0
            for size in self.sizes
        )
        if not sizes_ok:
            raise ValidationError(
                f"node {name!r}: {TENSOR_LIST_SIZES} must be a list of sizes, found {self.sizes!r}"
            )
        wanted = [
            a.name for a in schema.args if a.kind is ArgKind.TENSOR_LIST and a.name not in attrs
        ]
        required = [a for a in schema.args if a.name in wanted and not a.has_default]
        if not len(required) <= len(self.sizes) <= len(wanted):
            raise ValidationError(
                f"node {name!r}: {schema.op_type} takes tensor lists {wanted}, but "
                f"{TENSOR_LIST_SIZES} is {self.sizes}"
            )
        if self.masks is not None:
            masks_ok = isinstance(self.masks, list) and all(
                isinstance(mask, list) and all(isinstance(bit, bool) for bit in mask)
                for mask in self.masks
            )
            if not masks_ok or [len(mask) for mask in self.masks] != self.sizes:
                raise ValidationError(
                    f"node {name!r}: {TENSOR_LIST_NONE_MASKS} must hold one boolean per entry of "
                    f"each tensor list (sizes {self.sizes}), found {self.masks!r}"
                )

        absent = sum(map(sum, self.masks)) if self.masks is not None else 0
        if sum(self.sizes) - absent > num_inputs:
            raise ValidationError(
                f"node {name!r}: {TENSOR_LIST_SIZES} {self.sizes} need more tensors than the "
                f"node's {num_inputs} inputs"
            )

    def next_mask(self) -> list[bool] | None:
        """Return the mask of the next list, or None where no list is left."""
        if self.used == len(self.sizes):
            return None
        index = self.used
        self.used += 1
        return self.masks[index] if self.masks is not None else [False] * self.sizes[index]


def bind_arguments(
    name: str, schema: OpSchema, num_inputs: int, attrs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Put a node's arguments together: the inverse of `split_arguments`.

    Returns:
        Positional and keyword arguments for the operator, with a `Slot` in the place of each
        tensor.

    Raises:
        ValidationError: inputs or attributes do not fit the schema.
    """
    known = {arg.name for arg in schema.args}
    for key in attrs:
        if key not in known and key not in INTERNAL_ATTRS:
            raise ValidationError(
                f"node {name!r}: {schema.op_type} has no argument {key!r}; its arguments are "
                f"{sorted(known)}"
            )
    lists = _Lists(name, schema, num_inputs, attrs)
    next_input = 0
    positional: list[Any] = []
    by_keyword: dict[str, Any] = {}
    skipped = False

    def missing(arg: OpArg) -> ValidationError:
        return ValidationError(
            f"node {name!r}: {schema.op_type} needs argument {arg.name!r} ({arg.type_name}), but "
            "it is in neither inputs nor attrs"
        )

    for arg in schema.args:
        value: Any
        if arg.name in attrs:
            value = _attribute(name, schema, arg, attrs[arg.name])
        elif arg.kind is ArgKind.TENSOR and next_input < num_inputs:
            value, next_input = Slot(next_input), next_input + 1
        elif arg.kind is ArgKind.TENSOR_LIST and (mask := lists.next_mask()) is not None:
            value = []
            for absent in mask:
                value.append(None if absent else Slot(next_input))
                next_input += not absent
            if next_input > num_inputs:
                raise missing(arg)
        elif arg.has_default:
            skipped = True
            continue
        else:
            raise missing(arg)
        # After an argument left at its default, the rest must go by name.
        if arg.kwarg_only or skipped:
            by_keyword[arg.name] = value
        else:
            positional.append(value)
    if next_input != num_inputs:
        raise ValidationError(
            f"node {name!r}: {schema.op_type} takes {next_input} tensors here, but the node has "
            f"{num_inputs} inputs"
        )
    return positional, by_keyword


def _attribute(name: str, schema: OpSchema, arg: OpArg, value: Any) -> Any:
    where = f"node {name!r}: argument {arg.name!r} of {schema.op_type}"
    if arg.kind is ArgKind.TENSOR_LIST and value is not None:
        raise ValidationError(f"{where} must be given as inputs, found {value!r} in attrs")
    if arg.kind is ArgKind.TENSOR and isinstance(value, (str, list)):
        raise ValidationError(f"{where} must be a number or None, found {value!r}")
    return decode_for_type(value, arg.type_name, where)
