"""Operators that put tensors together: cat and stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_compiler.elementwise import Builder
from npu_compiler.elementwise_dispatch import emit_program
from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import axis, require, same_shape
from npu_compiler.ops.record import COPYABLE, OpRecord
from npu_compiler.placement import slots_of

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


_CATS = ("aten.cat.default", "aten.concat.default", "aten.concatenate.default")
_STACK = "aten.stack.default"
# The dimension along which these join their parts, which get it if they lack it.
_STACKS = {"hstack": 1, "vstack": 0, "row_stack": 0, "dstack": 2, "column_stack": 1}


def _tensors(node: Node) -> list[Value]:
    found = [t for t in node.args["tensors"] if isinstance(t, Value)]
    require(len(found) == len(node.args["tensors"]) >= 1, "it needs at least one tensor")
    return found


def _parts(node: Node) -> list[Value]:
    """The tensors that count: PyTorch passes over 1-D empty ones of any rank's company."""
    tensors = _tensors(node)
    kept = [t for t in tensors if t.shape != (0,)]
    return kept or tensors[:1]


Shape = tuple[int, ...]


def _joined(node: Node) -> tuple[list[Value], list[Shape], int]:
    """The parts of a cat or one of its relatives, the shapes that they are joined as, and the
    dimension.
    """
    if node.op_type in _CATS:
        parts = _parts(node)
        require(parts[0].rank >= 1, "0-d tensors cannot be concatenated")
        return parts, [p.shape for p in parts], axis(node.args["dim"], parts[0].rank)
    name = node.op_type.split(".")[1]
    parts = _tensors(node)
    shapes = [_at_least(name, p.shape) for p in parts]
    dim = 0 if name == "hstack" and len(shapes[0]) == 1 else _STACKS[name]
    return parts, shapes, dim


def _at_least(name: str, shape: Shape) -> Shape:
    """``shape`` with the dimensions that hstack and its like add."""
    if name == "hstack":
        return shape or (1,)
    if name == "column_stack":
        return (*shape, 1) if len(shape) == 1 else shape or (1, 1)
    if name == "dstack":
        short = {0: (1, 1, 1), 1: (1, *shape, 1), 2: (*shape, 1)}
        return short.get(len(shape), shape)
    return (1, *(shape or (1,))) if len(shape) < 2 else shape


def _check_cat(node: Node) -> str | None:
    _, shapes, dim = _joined(node)
    first = shapes[0]
    for shape in shapes:
        require(
            len(shape) == len(first) > dim
            and shape[:dim] == first[:dim]
            and shape[dim + 1 :] == first[dim + 1 :],
            f"shapes {[list(s) for s in shapes]} differ elsewhere than in dim {dim}",
        )
    total = sum(shape[dim] for shape in shapes)
    same_shape(node, (*first[:dim], total, *first[dim + 1 :]))
    return None


def concatenation(node: Node) -> tuple[list[Value], list[Shape], int, bool] | None:
    """The parts of a cat or stack, the shapes that they are joined as, the dimension, and whether
    it is a new one; None for another node.
    """
    if node.op_type == _STACK:
        parts = _tensors(node)
        return parts, [p.shape for p in parts], axis(node.args["dim"], parts[0].rank + 1), True
    if node.op_type in _JOINS:
        return (*_joined(node), False)
    return None


def _lower(lowering: Lowering, node: Node) -> None:
    """Copy the parts that do not lie in their places yet; the padding is filled once if no part has
    any.
    """
    slots = slots_of(node) or []
    single = slots[0][0]
    if len(slots) == 1 and (single.shape, single.dtype) == (node.output.shape, node.output.dtype):
        lowering.alias(node.output, lowering.read(single))
        return
    image = node.op_type != _STACK and lowering.is_image(*(part for part, _ in slots))
    out = lowering.define(node.output, image=image, strided=True)
    name = "+".join(node.origins)
    for part, slot in slots:
        missing = lowering.fill_slot(part, slot)
        if missing is not None:
            builder = Builder()
            # A parameter is loaded in the precision of the result.
            value = part if part.is_parameter else missing[0]
            emit_program(
                lowering, missing[1], builder, builder.load(value), node, name=name, is_copy=True
            )
    if out.pad is not None and not any(slot.of(out).pad is not None for _, slot in slots):
        lowering.zero_padding(out, node, f"{name}.padding")


def _check_stack(node: Node) -> str | None:
    tensors = _tensors(node)
    first = tensors[0]
    dim = axis(node.args["dim"], first.rank + 1)
    require(
        all(t.shape == first.shape for t in tensors),
        f"shapes {[list(t.shape) for t in tensors]} differ",
    )
    same_shape(node, (*first.shape[:dim], len(tensors), *first.shape[dim:]))
    return None


_JOINS = (*_CATS, *(f"aten.{name}.default" for name in _STACKS))
RECORDS = (
    *(
        OpRecord(
            op_type,
            "tensors:T[], dim=0" if op_type in _CATS else "tensors:T[]",
            lower=_lower,
            check=_check_cat,
            dtypes=COPYABLE,
        )
        for op_type in _JOINS
    ),
    OpRecord(
        _STACK,
        "tensors:T[], dim=0",
        lower=_lower,
        check=_check_stack,
        dtypes=COPYABLE,
    ),
)
