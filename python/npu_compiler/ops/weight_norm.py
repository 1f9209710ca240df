"""Weight normalisation: a recipe makes the weight when weights are loaded, so that runs are free of
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import axis, integer, require, same_shape
from npu_compiler.ops.record import OpRecord
from npu_compiler.program.recipes import RecipeStep

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

_OPS = ("aten._weight_norm.default", "aten._weight_norm_interface.default")


def _kept_axes(node: Node) -> tuple[int, ...]:
    """The axis whose slices are normalised one by one; PyTorch's -1 stands for the whole tensor."""
    dim = integer(node.args["dim"], "dim")
    return () if dim == -1 else (axis(dim, node.tensor("v").rank),)


def weight_source(weight: Value) -> tuple[Value, tuple[RecipeStep, ...]] | None:
    """The parameter that ``weight`` is made of and the steps that make it; None where it is known
    only in a run.
    """
    if weight.is_parameter:
        return weight, ()
    node = weight.producer
    if node is None or node.op_type not in _OPS or weight.index != 0:
        return None
    v, g = node.tensor("v"), node.tensor("g")
    return v, (RecipeStep("weight_norm", sources=(g.key,), args=_kept_axes(node)),)


def _check(node: Node) -> str | None:
    v, g = node.tensor("v"), node.tensor("g")
    require(
        v.is_parameter and g.kind == v.kind,
        f"v and g must both be weights of the model, got {v!r} and {g!r}",
    )
    kept = _kept_axes(node)
    extent = v.shape[kept[0]] if kept else 1
    require(g.numel == extent, f"g must have {extent} values, got {list(g.shape)}")
    require(
        v.dtype == g.dtype == node.output.dtype,
        f"v, g and result must have one dtype, got {v.dtype}, {g.dtype}, {node.output.dtype}",
    )
    same_shape(node, v.shape)
    return None


def _is_absorbed(reader: Node, weight: Value) -> bool:
    """Whether the reader is a layer that makes its weight by ``weight_source``."""
    from npu_compiler.ops import find_op

    record = find_op(reader.op_type)
    layer = record is not None and record.epilogue is not None
    bias = reader.args.get("bias")
    others = [v for v in reader.inputs() if v is weight]
    return (
        layer
        and reader.args.get("weight") is weight
        and len(others) == 1
        and (bias is None or bias.is_parameter)
    )


def _lower(lowering: Lowering, node: Node) -> None:
    """A parameter of its own, unless only layers read it, which make theirs."""
    weight = node.output
    readers = [n for n in lowering.graph.nodes if any(v is weight for v in n.inputs())]
    is_output = any(v is weight for v in lowering.graph.outputs)
    if not is_output and all(_is_absorbed(reader, weight) for reader in readers):
        return
    source = weight_source(weight)
    require(source is not None, f"v and g of {node.name!r} must be weights of the model")
    if source is not None:
        v, steps = source
        dtype = lowering.precision.storage(v.dtype)
        lowering.alias(weight, lowering.parameter(v, steps, dtype))


RECORDS = tuple(
    OpRecord(op_type, "v:T, g:T, dim=0", lower=_lower, check=_check, single_output=True)
    for op_type in _OPS
)
