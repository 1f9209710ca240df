"""Operators that put tensors together: cat, stack, constant padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from npu_compiler.elementwise import Builder
from npu_compiler.elementwise_dispatch import emit_program
from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import axis, integers, number, require, same_shape
from npu_compiler.ops.record import COPYABLE, OpRecord
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


def _tensors(node: Node) -> list[Value]:
    found = [t for t in node.args["tensors"] if isinstance(t, Value)]
    require(len(found) == len(node.args["tensors"]) >= 1, "it needs at least one tensor")
    return found


def _parts(node: Node) -> list[Value]:
    """The tensors that count: PyTorch passes over 1-D empty ones of any rank's company."""
    tensors = _tensors(node)
    kept = [t for t in tensors if t.shape != (0,)]
    return kept or tensors[:1]


def _check_cat(node: Node) -> str | None:
    parts = _parts(node)
    first = parts[0]
    require(first.rank >= 1, "0-d tensors cannot be concatenated")
    dim = axis(node.args["dim"], first.rank)
    for t in parts:
        require(
            t.rank == first.rank
            and t.shape[:dim] == first.shape[:dim]
            and t.shape[dim + 1 :] == first.shape[dim + 1 :],
            f"shapes {[list(p.shape) for p in parts]} differ elsewhere than in dim {dim}",
        )
    total = sum(t.shape[dim] for t in parts)
    same_shape(node, (*first.shape[:dim], total, *first.shape[dim + 1 :]))
    return None


def _lower_cat(lowering: Lowering, node: Node) -> None:
    parts = _parts(node)
    dim = axis(node.args["dim"], parts[0].rank)
    out = lowering.define(node.output, image=lowering.is_image(*parts))
    starts = [sum(p.shape[dim] for p in parts[:i]) for i in range(len(parts))]
    _assemble(
        lowering,
        node,
        out,
        [(p, out.slice(dim, at, p.shape[dim])) for p, at in zip(parts, starts, strict=True)],
    )


def _assemble(lowering: Lowering, node: Node, out: View, pieces: list[tuple[Value, View]]) -> None:
    """Copy each value into its place; ``out``'s padding is filled once if no piece has any."""
    name = "+".join(node.origins)
    for value, place in pieces:
        builder = Builder()
        emit_program(lowering, place, builder, builder.load(value), node, name=name, is_copy=True)
    if out.pad is not None and not any(place.pad is not None for _, place in pieces):
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


def _lower_stack(lowering: Lowering, node: Node) -> None:
    tensors = _tensors(node)
    dim = axis(node.args["dim"], tensors[0].rank + 1)
    out = lowering.define(node.output, image=False)
    _assemble(lowering, node, out, [(t, out.drop(dim, i)) for i, t in enumerate(tensors)])


def _check_pad_attrs(args: Mapping[str, Any]) -> str | None:
    pad = integers(args["pad"], "pad")
    require(len(pad) % 2 == 0, f"pad must hold pairs, got {list(pad)}")
    mode = args.get("mode", "constant")
    require(mode == "constant", f"padding mode {mode!r} is not supported, only 'constant'")
    value = args.get("value")
    require(value is None or number(value, "value") == value or value != value, "")
    return None


def _pairs(node: Node) -> list[tuple[int, int]]:
    """(before, after) per dimension, in order."""
    pad = integers(node.args["pad"], "pad")
    rank = node.tensor("self").rank
    require(len(pad) <= 2 * rank, f"pad {list(pad)} is too long for rank {rank}")
    found = [(0, 0)] * rank
    for i in range(len(pad) // 2):
        found[rank - 1 - i] = (pad[2 * i], pad[2 * i + 1])
    return found


def _check_pad(node: Node) -> str | None:
    x = node.tensor("self")
    shape = [n + a + z for n, (a, z) in zip(x.shape, _pairs(node), strict=True)]
    require(min(shape, default=0) >= 0, f"pad makes the shape negative: {shape}")
    same_shape(node, shape)
    return None


def _lower_pad(lowering: Lowering, node: Node) -> None:
    """Fill the result, then copy the input into its place; negative padding crops."""
    x = lowering.read(node.tensor("self"))
    out = lowering.define(node.output, image=lowering.is_image(node.tensor("self")))
    inner = out
    for dim, (before, after) in enumerate(_pairs(node)):
        cut = max(-before, 0)
        x = x.slice(dim, cut, max(0, x.shape[dim] - cut - max(-after, 0)))
        inner = inner.slice(dim, max(before, 0), x.shape[dim])
    fill = Builder()
    value = node.args.get("value")
    name = "+".join(node.origins)
    constant = fill.constant(0.0 if value is None else float(value))
    emit_program(lowering, out, fill, constant, node, name=f"{name}.fill")
    builder = Builder()
    inner = View(inner.storage, inner.shape, inner.strides, inner.offset)
    emit_program(lowering, inner, builder, builder.load(x), node, name=name, is_copy=True)


RECORDS = (
    OpRecord(
        "aten.cat.default",
        "tensors:T[], dim=0",
        lower=_lower_cat,
        check=_check_cat,
        dtypes=COPYABLE,
    ),
    OpRecord(
        "aten.stack.default",
        "tensors:T[], dim=0",
        lower=_lower_stack,
        check=_check_stack,
        dtypes=COPYABLE,
    ),
    OpRecord(
        "aten.constant_pad_nd.default",
        "self:T, pad, value=0",
        lower=_lower_pad,
        check_attrs=_check_pad_attrs,
        check=_check_pad,
        dtypes=COPYABLE,
    ),
    OpRecord(
        "aten.pad.default",
        "self:T, pad, mode='constant', value=None",
        lower=_lower_pad,
        check_attrs=_check_pad_attrs,
        check=_check_pad,
        dtypes=COPYABLE,
    ),
)
