"""The op record: all that the compiler knows of one ATen overload, and how arguments are bound to
its schema.

A signature is written like ``"input:T, weight:T, bias:T?, stride=1"``: ``T`` a tensor (or a number
standing in its place where the operator takes one), ``T?`` an optional tensor, ``T[]`` a list of
tensors, ``name`` a required attribute, ``name=literal`` one with a default.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from npu_compiler.errors import IRError
from npu_compiler.graph import Node, Value

if TYPE_CHECKING:
    from npu_compiler.elementwise import Builder, Register
    from npu_compiler.lowering import Lowering
    from npu_compiler.view import View

LIST_SIZES = "_tensor_list_sizes"
LIST_MASKS = "_tensor_list_none_masks"
MUTATES = "_mutates"
INTERNAL_ATTRS = frozenset({LIST_SIZES, LIST_MASKS, MUTATES})
_REQUIRED = object()

MAX_LIST = 1 << 16
# Attributes of elementwise operators that are no numbers.
NOT_NUMBERS = frozenset({"approximate", "rounding_mode"})
# Tensor dtypes that the NPU computes with; every other one is refused with a reason.
FLOATS = frozenset({"float32", "float16", "bfloat16"})
FLOATS_AND_BOOL = FLOATS | {"bool"}
# Dtypes whose every value passes unchanged through a register of an elementwise program.
COPYABLE = FLOATS_AND_BOOL | {"int32", "int16", "int8", "uint8"}


class Refusal(Exception):
    """A rule does not hold; the text is the reason."""


def require(holds: bool, reason: str) -> None:
    """Raise Refusal with ``reason`` unless ``holds``."""
    if not holds:
        raise Refusal(reason)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a signature; ``kind``: ``T``, ``T?``, ``T[]`` or ``attr``."""

    name: str
    kind: str
    default: Any = _REQUIRED


def parse_signature(text: str) -> tuple[Parameter, ...]:
    """The arguments that a signature text declares."""
    found = []
    for part in filter(None, (p.strip() for p in text.split(";" if ";" in text else ","))):
        name, equals, default = part.partition("=")
        name, colon, kind = name.strip().partition(":")
        if colon:
            found.append(Parameter(name, kind, None if kind == "T?" else _REQUIRED))
        else:
            value = ast.literal_eval(default.strip()) if equals else _REQUIRED
            found.append(Parameter(name, "attr", value))
    return tuple(found)


@dataclass(frozen=True)
class OpRecord:
    """One ATen overload. Exactly one of ``emit``, ``view`` and ``lower`` says how it is compiled:

    * ``emit(builder, args)``: elementwise; returns the result's register.
    * ``view(node, x)``: a view of its first tensor: the views of its outputs, or None where strides
      cannot show it.
    * ``lower(lowering, node)``: emits kernels.

    ``check(args)`` raises Refusal (or returns the reason) when the op cannot run; it sees bound
    arguments and may find tensors missing (``is_op_supported`` asks about attributes alone), see
    ``OpRecord.reason``.
    """

    op_type: str
    signature: str
    emit: Callable[[Builder, Mapping[str, Any]], Register] | None = None
    view: Callable[[Node, View], list[View] | None] | None = None
    lower: Callable[[Lowering, Node], None] | None = None
    check_attrs: Callable[[Mapping[str, Any]], str | None] | None = None
    check: Callable[[Node], str | None] | None = None
    dtypes: frozenset[str] = FLOATS
    # Only the first output may be read.
    single_output: bool = False
    # Whether a kernel can add a residual and clamp (and fold a BatchNorm) in the same dispatch; see
    # passes/fusion.py.
    epilogue: Callable[[Node], bool] | None = None
    # For an identity (dropout in eval, contiguous): whether the node returns its first tensor
    # unchanged.
    identity: Callable[[Node], bool] | None = None
    # For an op that clamps: its bounds; None where they are not constants.
    clamp: Callable[[Mapping[str, Any]], tuple[float, float] | None] | None = None
    # Whether a view op only renames axes or regroups elements, so that it has an inverse.
    doc: str = ""

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parsed signature."""
        return parse_signature(self.signature)

    def bind(self, name: str, inputs: Sequence[Value], attrs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name. Raises IRError where inputs or attributes do not fit the signature."""
        where = f"node {name!r} ({self.op_type})"
        known = {p.name for p in self.parameters}
        for key in attrs:
            if key not in known and key not in INTERNAL_ATTRS:
                raise IRError(
                    f"{where}: it has no argument {key!r}; its arguments are {sorted(known)}"
                )
        sizes = attrs.get(LIST_SIZES)
        masks = attrs.get(LIST_MASKS)
        rest = list(inputs)
        args: dict[str, Any] = {}
        for p in self.parameters:
            if p.name in attrs:
                args[p.name] = _attribute(where, p, attrs[p.name])
            elif p.kind == "T[]":
                args[p.name] = _take_list(where, p.name, rest, sizes, masks)
            elif p.kind in ("T", "T?") and rest:
                args[p.name] = rest.pop(0)
            elif p.default is not _REQUIRED:
                args[p.name] = p.default
            else:
                raise IRError(f"{where}: argument {p.name!r} is in neither inputs nor attrs")
        if rest:
            raise IRError(
                f"{where}: it takes {len(inputs) - len(rest)} tensors here, "
                f"but the node has {len(inputs)} inputs"
            )
        return args

    def attrs_reason(self, attrs: Mapping[str, Any]) -> str | None:
        """Why the op cannot run with these attributes, whatever its tensors are; None if it can."""
        if self.check_attrs is None:
            return None
        args: dict[str, Any] = {}
        for p in self.parameters:
            if p.name in attrs:
                args[p.name] = attrs[p.name]
            elif p.default is not _REQUIRED:
                args[p.name] = p.default
            elif p.kind == "attr":
                return f"argument {p.name!r} is missing"
        return _reason(self.check_attrs, args)

    def reason(self, node: Node) -> str | None:
        """Why the node cannot run on the NPU, with the actual values; None if it can."""
        if len(node.outputs) == 0:
            return "it has no output"
        for value in (*node.inputs(), *node.outputs):
            if value in node.outputs and self.single_output and value.index > 0:
                continue
            if value.dtype not in self.dtypes:
                return (
                    f"tensor {value.name!r} is {value.dtype}; "
                    f"it can compute {', '.join(sorted(self.dtypes))}"
                )
        if self.emit is not None and self.identity is None:
            found = _reason(self._check_numbers, node.args)
            if found is not None:
                return found
        if self.check_attrs is not None:
            found = _reason(self.check_attrs, node.args)
            if found is not None:
                return found
        if self.view is not None:
            return _reason(self._check_view, node)
        return None if self.check is None else _reason(self.check, node)

    def _check_numbers(self, args: Mapping[str, Any]) -> str | None:
        """Attributes of a formula are numbers, but for those that choose between formulas."""
        for p in self.parameters:
            value = args[p.name]
            absent = value is None and p.default is None
            if p.kind == "attr" and p.name not in NOT_NUMBERS and not absent:
                number(value, p.name)
        return None

    def _check_view(self, node: Node) -> str | None:
        """A view of contiguous memory exists (or a copy makes it) and has the declared shapes."""
        source = next(node.inputs(), None)
        require(source is not None and self.view is not None, "it has no tensor operand")
        if source is None or self.view is None:
            return None
        for value in node.outputs:
            require(value.dtype == source.dtype, f"the result must be {source.dtype}")
        views = self.view(node, plain_view(source))
        found = None if views is None else [list(v.shape) for v in views]
        declared = [list(v.shape) for v in node.outputs]
        require(
            found is None or found == declared,
            f"the IR declares its results as {declared}, but the op gives {found}",
        )
        return None


def plain_view(value: Value) -> View:
    """``value`` as contiguous memory that does not exist, to ask what a view of it would be."""
    from npu_compiler.view import Storage, contiguous_strides

    shape = value.shape
    strides = contiguous_strides(shape)
    dtype = value.dtype
    return Storage(value.name, "arena", dtype, dtype, shape, shape, strides, "row_major").view()


def _reason(check: Callable[[Any], str | None], subject: Any) -> str | None:
    try:
        return check(subject)
    except Refusal as refusal:
        return str(refusal)


def _attribute(where: str, p: Parameter, value: Any) -> Any:
    """An argument given as an attribute: in a tensor's place only a number (or None) may stand."""
    if p.kind == "attr" or (p.kind == "T?" and value is None) or is_number(value):
        return value
    raise IRError(f"{where}: argument {p.name!r} must be a tensor or a number, found {value!r}")


def is_number(value: Any) -> bool:
    """Whether ``value`` is a real number that a float64 holds."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 1000)


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


def number(value: Any, name: str) -> float:
    """``value`` as a number; refuses anything else."""
    if is_number(value):
        return float(value) if isinstance(value, float) else int(value)
    raise Refusal(f"{name} must be a number, got {value!r}")


def integer(value: Any, name: str) -> int:
    """``value`` as an integer; refuses anything else."""
    require(
        isinstance(value, int) and not isinstance(value, bool),
        f"{name} must be an integer, got {value!r}",
    )
    return int(value)


def integers(value: Any, name: str) -> tuple[int, ...]:
    """``value`` as a tuple of integers (a lone integer is a tuple of one)."""
    if isinstance(value, (list, tuple)):
        return tuple(integer(v, name) for v in value)
    return (integer(value, name),)


def pair(value: Any, name: str) -> tuple[int, int]:
    """``value`` as (rows, columns): two integers, or one for both."""
    found = integers(value, name)
    require(len(found) in (1, 2), f"{name} must have one or two values, got {list(found)}")
    return found[0], found[-1]


def axis(value: Any, rank: int, name: str = "dim") -> int:
    """``value`` as a dimension from 0 on; negative ones count from the end."""
    dim = integer(value, name)
    bound = max(rank, 1)
    require(-bound <= dim < bound, f"{name} {dim} is out of range for rank {rank}")
    return dim % bound


def same_shape(node: Node, expected: Sequence[int], index: int = 0) -> None:
    """Refuse a node whose declared output shape is not what the op gives."""
    declared = node.outputs[index].shape
    require(
        tuple(expected) == declared,
        f"the IR declares its result as {list(declared)}, but the op gives {list(expected)}",
    )
