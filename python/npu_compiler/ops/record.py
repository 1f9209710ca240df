"""The op record: all that the compiler knows of one ATen overload."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from npu_compiler.dtypes import FLOATING
from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import Refusal, number, require
from npu_compiler.ops.promotion import DEFAULT_FLOAT, result_type
from npu_compiler.ops.signature import REQUIRED, Parameter, bind_arguments, parse_signature

if TYPE_CHECKING:
    from npu_compiler.arrays import Array
    from npu_compiler.elementwise import Builder, Register
    from npu_compiler.lowering import Lowering
    from npu_compiler.ops.map_reduction import MapReduction
    from npu_compiler.view import View

# Attributes of elementwise operators that are no numbers.
NOT_NUMBERS = frozenset({"approximate", "rounding_mode"})
# Tensor dtypes that the NPU computes with; every other one is refused with a reason.
FLOATS = frozenset({"float32", "float16", "bfloat16"})
INTEGERS = frozenset({"int64", "int32", "int16", "int8", "uint8"})
FLOATS_AND_BOOL = FLOATS | {"bool"}
INTEGERS_AND_BOOL = INTEGERS | {"bool"}
ALL = FLOATS | INTEGERS_AND_BOOL
# Dtypes whose every value passes unchanged through a register of an elementwise program.
COPYABLE = ALL


@dataclass(frozen=True)
class OpRecord:
    """One ATen overload. Exactly one of ``emit``, ``view``, ``lower`` and ``value`` says how it is
    compiled:

    * ``emit(builder, args)``: elementwise; returns the result's register.
    * ``view(node, x)``: a view of its first tensor: the views of its outputs, or None where strides
      cannot show it.
    * ``lower(lowering, node)``: emits kernels.
    * ``value(node)``: its result, which no tensor's content decides; passes/constants.py puts it in
      the node's place.

    ``check_attrs(args)`` and ``check(node)`` raise Refusal (or return the reason) when the op
    cannot run; the former sees attributes alone, since that is all that ``is_op_supported`` knows.
    """

    op_type: str
    signature: str
    emit: Callable[[Builder, Mapping[str, Any]], Register] | None = None
    view: Callable[[Node, View], list[View] | None] | None = None
    lower: Callable[[Lowering, Node], None] | None = None
    value: Callable[[Node], Array] | None = None
    check_attrs: Callable[[Mapping[str, Any]], str | None] | None = None
    check: Callable[[Node], str | None] | None = None
    dtypes: frozenset[str] = FLOATS
    # Only the first output may be read.
    single_output: bool = False
    # Whether a kernel can add a residual, apply an activation and clamp (and fold a BatchNorm) in
    # the same dispatch; see passes/fusion.py.
    epilogue: Callable[[Node], bool] | None = None
    # For an identity (dropout in eval, contiguous): whether the node returns its first tensor
    # unchanged.
    identity: Callable[[Node], bool] | None = None
    # For an op that clamps: its bounds; None where they are not constants.
    clamp: Callable[[Mapping[str, Any]], tuple[float, float] | None] | None = None
    # For an op of one tensor that gemm and conv2d can apply to their result: its name in
    # kernels/activation.py.
    activation: Callable[[Mapping[str, Any]], str] | None = None
    # For an op that reduces values of a formula: how kernel map_reduce computes the node, so that
    # it takes in elementwise neighbours; None where it cannot. ``lower`` compiles the others.
    map_reduction: Callable[[Node], MapReduction | None] | None = None
    # For an elementwise op: the arguments that PyTorch's type promotion brings to one dtype, in
    # which the op computes (``emit`` gets them in registers of it); whether an integral dtype
    # becomes float32; the dtypes that it computes in; and its result's dtype: that one
    # ("common"), "bool", that of its first tensor ("self"), or anything ("").
    promotes: tuple[str, ...] = ()
    to_float: bool | Callable[[Mapping[str, Any]], bool] = False
    computes: frozenset[str] = ALL
    result: str = ""

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parsed signature."""
        return parse_signature(self.signature)

    def bind(self, name: str, inputs: Sequence[Value], attrs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of node ``name`` by name. Raises IRError where they do not fit."""
        return bind_arguments(f"node {name!r} ({self.op_type})", self.parameters, inputs, attrs)

    def attrs_reason(self, attrs: Mapping[str, Any]) -> str | None:
        """Why the op cannot run with these attributes, whatever its tensors are; None if it can."""
        if self.check_attrs is None:
            return None
        args: dict[str, Any] = {}
        for p in self.parameters:
            if p.name in attrs:
                args[p.name] = attrs[p.name]
            elif p.default is not REQUIRED:
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
            found = found or _reason(self._check_promotion, node)
            if found is not None:
                return found
        if self.check_attrs is not None:
            found = _reason(self.check_attrs, node.args)
            if found is not None:
                return found
        if self.view is not None:
            return _reason(self._check_view, node)
        return None if self.check is None else _reason(self.check, node)

    def common_dtype(self, args: Mapping[str, Any]) -> str | None:
        """The dtype in which an elementwise op computes; None where it promotes nothing."""
        operands = [args[name] for name in self.promotes if args.get(name) is not None]
        if not operands:
            return None
        found = result_type(operands)
        to_float = self.to_float if isinstance(self.to_float, bool) else self.to_float(args)
        return DEFAULT_FLOAT if to_float and found not in FLOATING else found

    def _check_promotion(self, node: Node) -> str | None:
        """The op computes in its operands' common dtype, and the IR declares its result's."""
        common = self.common_dtype(node.args)
        first = next(node.inputs(), None)
        if common is None or first is None:
            return None
        require(
            common in self.computes,
            f"it would compute in {common}; it can compute in {', '.join(sorted(self.computes))}",
        )
        found = {"common": common, "bool": "bool", "self": first.dtype}.get(self.result)
        # What computes in place has the dtype of its target.
        require(
            found is None or node.output.dtype in (found, first.dtype),
            f"the result is {found}, the IR declares {node.output.dtype}",
        )
        return None

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
