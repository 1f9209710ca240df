"""Padding: with a constant, reflected, replicated or circular."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from npu_compiler.arrays import Array
from npu_compiler.dtypes import FLOATING
from npu_compiler.graph import Node
from npu_compiler.ops.arguments import integers, number, require, same_shape
from npu_compiler.ops.embedding import select_along
from npu_compiler.ops.record import COPYABLE, OpRecord
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

# Which element of a dimension stands at each position of the padded one, for positions -before on.
_SOURCES: dict[str, Callable[[Array, int], Array]] = {
    "reflect": lambda at, n: (n - 1) - np.abs((n - 1) - np.abs(at)),
    "replicate": lambda at, n: np.clip(at, 0, n - 1),
    "circular": lambda at, n: at % n,
}


def _padding(args: Mapping[str, Any]) -> tuple[int, ...]:
    name = "pad" if "pad" in args else "padding"
    found = integers(args[name], name)
    require(len(found) % 2 == 0, f"{name} must hold pairs, got {list(found)}")
    return found


def _check_attrs(args: Mapping[str, Any]) -> str | None:
    _padding(args)
    mode = args.get("mode", "constant")
    require(mode in ("constant", *_SOURCES), f"padding mode {mode!r} is not supported")
    if args.get("value") is not None:
        number(args["value"], "value")
    return None


def _pairs(node: Node) -> list[tuple[int, int]]:
    """(before, after) per dimension, in order."""
    pad = _padding(node.args)
    rank = node.tensor("self").rank
    require(len(pad) <= 2 * rank, f"padding {list(pad)} is too long for rank {rank}")
    found = [(0, 0)] * rank
    for i in range(len(pad) // 2):
        found[rank - 1 - i] = (pad[2 * i], pad[2 * i + 1])
    return found


def _check(node: Node, mode: str) -> str | None:
    x = node.tensor("self")
    require(x.dtype == node.output.dtype, f"the result must be {x.dtype}")
    shape = [n + a + z for n, (a, z) in zip(x.shape, _pairs(node), strict=True)]
    require(min(shape, default=0) >= 0, f"padding makes the shape negative: {shape}")
    same_shape(node, shape)
    if mode == "constant":
        value = node.args.get("value") or 0
        require(
            x.dtype in FLOATING or value == int(value), f"{value!r} is no value of dtype {x.dtype}"
        )
        return None
    for n, (before, after) in zip(x.shape, _pairs(node), strict=True):
        most = {"reflect": n - 1, "circular": n}.get(mode, max(before, after))
        require(
            max(before, after) <= max(most, 0) and (n > 0 or max(before, after) <= 0),
            f"{mode} padding of {before} and {after} is too large for a dimension of {n}",
        )
        require(
            mode != "circular" or before * after >= 0,
            f"circular padding of {before} and {after} crops and repeats the same dimension",
        )
    return None


def _lower_constant(lowering: Lowering, node: Node) -> None:
    """Fill the result, then copy the input into its place; negative padding crops."""
    x = lowering.read(node.tensor("self"))
    image = lowering.is_image(node.tensor("self"))
    out = lowering.define(node.output, image=image, strided=True)
    inner = out
    for dim, (before, after) in enumerate(_pairs(node)):
        cut = max(-before, 0)
        x = x.slice(dim, cut, max(0, x.shape[dim] - cut - max(-after, 0)))
        inner = inner.slice(dim, max(before, 0), x.shape[dim])
    name = "+".join(node.origins)
    fill = lowering.fill(node.args.get("value") or 0, out.dtype)
    lowering.copy(fill, out, node, name=f"{name}.fill")
    inner = View(inner.storage, inner.shape, inner.strides, inner.offset)
    lowering.copy(x, inner, node, name=name)


def _lower_mirrored(lowering: Lowering, node: Node, mode: str) -> None:
    """One dimension after the other, each gathered with a constant index."""
    x = lowering.read(node.tensor("self"))
    image = lowering.is_image(node.tensor("self"))
    steps = [(dim, pair) for dim, pair in enumerate(_pairs(node)) if pair != (0, 0)]
    if not steps:
        lowering.alias(node.output, x)
        return
    out = lowering.define(node.output, image=image, strided=True)
    for number_, (dim, (before, after)) in enumerate(steps):
        n = x.shape[dim]
        places = np.arange(-before, n + after)
        index = lowering.constant(
            f"{node.name}.index", _SOURCES[mode](places, max(n, 1)).astype(np.int32)
        )
        shape = (*x.shape[:dim], n + before + after, *x.shape[dim + 1 :])
        if number_ == len(steps) - 1:
            into = out
        elif image:
            into = lowering.image_memory(f"{node.name}.step", shape, x.dtype)
        else:
            into = lowering.temporary(f"{node.name}.step", shape, x.dtype)
        select_along(lowering, node, x, index, dim, into, is_copy=True)
        x = into


def _lower(lowering: Lowering, node: Node, mode: str) -> None:
    if mode == "constant":
        _lower_constant(lowering, node)
    else:
        _lower_mirrored(lowering, node, mode)


def _record(op_type: str, signature: str, mode: str | None) -> OpRecord:
    return OpRecord(
        op_type,
        signature,
        lower=lambda lowering, node: _lower(lowering, node, mode or node.args["mode"]),
        check_attrs=_check_attrs,
        check=lambda node: _check(node, mode or node.args["mode"]),
        dtypes=COPYABLE,
    )


RECORDS = (
    _record("aten.constant_pad_nd.default", "self:T, pad, value=0", "constant"),
    _record("aten.pad.default", "self:T, pad, mode='constant', value=None", None),
    _record("aten._pad_circular.default", "self:T, pad", "circular"),
    *(
        _record(f"aten.{name}_pad{n}d.default", "self:T, padding", mode)
        for name, mode in (("reflection", "reflect"), ("replication", "replicate"))
        for n in (1, 2, 3)
    ),
)
