"""Reads by index tensors: gather, take_along_dim, index.Tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from npu_compiler.elementwise import Builder
from npu_compiler.elementwise_dispatch import emit_program
from npu_compiler.graph import Node, Value
from npu_compiler.index_dispatch import Indexed, emit_gather
from npu_compiler.ops.arguments import axis, require, same_shape
from npu_compiler.ops.index_checks import INDEXABLE, check_index, same_dtypes
from npu_compiler.ops.record import OpRecord
from npu_compiler.view import View, reshape_strides

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


def _check_gather(node: Node) -> str | None:
    x, index = node.tensor("self"), node.tensor("index")
    check_index(index, "index")
    same_dtypes(x, node.output)
    dim = axis(node.args["dim"], x.rank)
    fits = max(x.rank, 1) == max(index.rank, 1) and all(
        n <= m for d, (n, m) in enumerate(zip(index.shape, x.shape, strict=False)) if d != dim
    )
    require(fits, f"index {list(index.shape)} does not fit {list(x.shape)} along dim {dim}")
    same_shape(node, index.shape)
    return None


def _lower_gather(lowering: Lowering, node: Node) -> None:
    x = lowering.read(node.tensor("self"))
    index = lowering.read(node.tensor("index"))
    out = lowering.define(node.output, image=False, strided=True)
    dim = axis(node.args["dim"], len(x.shape))
    _gather_along(lowering, node, x, index, dim, out, wrap=False)


def _gather_along(
    lowering: Lowering, node: Node, x: View, index: View, dim: int, out: View, *, wrap: bool
) -> None:
    x = x if x.shape else x.insert(0)
    shape = out.shape or (1,)
    flat = View(out.storage, shape, out.strides or (0,), out.offset, out.pad)
    emit_gather(lowering, node, Indexed.of(x, dim, shape), index.expand(shape), flat, wrap=wrap)


def _broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that all broadcast to; refuses shapes that do not."""
    rank = max((len(s) for s in shapes), default=0)
    result = []
    for d in range(-rank, 0):
        sizes = {s[d] for s in shapes if len(s) >= -d} - {1}
        require(len(sizes) <= 1, f"shapes {[list(s) for s in shapes]} do not broadcast")
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def _along_shapes(node: Node) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """take_along_dim's dimension, and the broadcast shapes of its tensor and its index."""
    x, index = node.tensor("self"), node.tensor("indices")
    dim = axis(node.args["dim"], x.rank)
    require(x.rank == index.rank, f"ranks of {list(x.shape)} and {list(index.shape)} differ")
    rest = _broadcast(
        (*x.shape[:dim], *x.shape[dim + 1 :]), (*index.shape[:dim], *index.shape[dim + 1 :])
    )
    tensor = (*rest[:dim], x.shape[dim], *rest[dim:])
    return dim, tensor, (*rest[:dim], index.shape[dim], *rest[dim:])


def _check_take_along(node: Node) -> str | None:
    x, index = node.tensor("self"), node.tensor("indices")
    check_index(index, "indices")
    same_dtypes(x, node.output)
    require(node.args["dim"] is not None, "dim must be given: the flattened form is not supported")
    same_shape(node, _along_shapes(node)[2])
    return None


def _lower_take_along(lowering: Lowering, node: Node) -> None:
    dim, tensor, shape = _along_shapes(node)
    x = lowering.read(node.tensor("self")).expand(tensor)
    index = lowering.read(node.tensor("indices")).expand(shape)
    out = lowering.define(node.output, image=False, strided=True)
    _gather_along(lowering, node, x, index, dim, out, wrap=True)


def _check_take(node: Node) -> str | None:
    check_index(node.tensor("index"), "index")
    same_dtypes(node.tensor("self"), node.output)
    same_shape(node, node.tensor("index").shape)
    return None


def _lower_take(lowering: Lowering, node: Node) -> None:
    """The tensor counts as one row."""
    x = lowering.read(node.tensor("self"))
    index = lowering.read(node.tensor("index"))
    row = x.reshape((x.numel,)) or lowering.contiguous(x, node).reshape((x.numel,)) or x
    out = lowering.define(node.output, image=False, strided=True)
    places = View(row.storage, out.shape, (0,) * len(out.shape), row.offset)
    source = Indexed(places, row.shape[0], row.strides[0])
    emit_gather(lowering, node, source, index, out)


# Advanced indexing.


@dataclass(frozen=True, slots=True)
class Advanced:
    """Index tensors by dimension, the shape they broadcast to, and the position of that shape's
    dimensions in the result.
    """

    indices: tuple[tuple[int, Value], ...]
    shape: tuple[int, ...]
    position: int

    def result(self, x: Sequence[int]) -> tuple[int, ...]:
        """The shape of what is picked from a tensor of shape ``x``."""
        rest = [n for d, n in enumerate(x) if d not in self.dims]
        return (*rest[: self.position], *self.shape, *rest[self.position :])

    @property
    def dims(self) -> tuple[int, ...]:
        """The indexed dimensions."""
        return tuple(d for d, _ in self.indices)


def advanced(node: Node) -> Advanced:
    """The indexing of an index or index_put node; refuses masks and what does not fit."""
    x = node.tensor("self")
    given = node.args["indices"]
    require(isinstance(given, list) and len(given) <= x.rank, f"{given!r} does not index {x!r}")
    indices = tuple((d, v) for d, v in enumerate(given) if v is not None)
    require(bool(indices), "it has no index tensor")
    for _, value in indices:
        check_index(value, "every index")
    dims = [d for d, _ in indices]
    adjacent = dims == list(range(dims[0], dims[0] + len(dims)))
    shape = _broadcast(*(v.shape for _, v in indices))
    return Advanced(indices, shape, dims[0] if adjacent else 0)


def _check_index_tensor(node: Node) -> str | None:
    x = node.tensor("self")
    same_dtypes(x, node.output)
    same_shape(node, advanced(node).result(x.shape))
    return None


def indexed(
    lowering: Lowering, node: Node, x: View, how: Advanced, *, copies: bool = True
) -> tuple[Indexed, View] | None:
    """``x`` seen through the index (in the shape of ``how.result``), and one index that serves all
    indexed dimensions, of shape ``how.shape``. None where ``x`` must be copied first and may not.
    """
    rest = [d for d in range(len(x.shape)) if d not in how.dims]
    sizes = [x.shape[d] for d in how.dims]
    merged = reshape_strides(sizes, [x.strides[d] for d in how.dims], (prod(sizes),))
    if merged is None:
        if not copies:
            return None
        x = lowering.contiguous(x.permute([*rest, *how.dims]), node)
        x = x.permute(_inverse([*rest, *how.dims]))
        merged = (x.strides[how.dims[-1]],)
    kept = x.permute([*rest, *how.dims])
    shape, strides = list(kept.shape[: len(rest)]), list(kept.strides[: len(rest)])
    shape[how.position : how.position] = how.shape
    strides[how.position : how.position] = [0] * len(how.shape)
    view = View(x.storage, tuple(shape), tuple(strides), x.offset)
    return Indexed(view, prod(sizes), merged[0]), _linear(lowering, node, how, sizes)


def _inverse(order: Sequence[int]) -> list[int]:
    return [order.index(d) for d in range(len(order))]


def _linear(lowering: Lowering, node: Node, how: Advanced, sizes: Sequence[int]) -> View:
    """The place in the merged dimensions; out of range where one of the indices is."""
    if len(how.indices) == 1:
        return lowering.read(how.indices[0][1]).expand(how.shape)
    b = Builder()
    total = b.constant(0, "l")
    bad = b.constant(0, "i")
    for (_, value), size in zip(how.indices, sizes, strict=True):
        given = b.convert(b.load(lowering.read(value)), "l")
        index = b("select_l", b("lt_l", given, 0), b("add_l", given, size), given)
        outside = b("or_i", b("lt_l", index, 0), b.negation(b("lt_l", index, size)))
        bad = b("or_i", bad, outside)
        total = b("add_l", b("mul_l", total, size), index)
    result = b("select_l", bad, prod(sizes), total)
    out = lowering.temporary(f"{node.name}.index", how.shape, "int64")
    emit_program(lowering, out, b, result, node, name=f"{node.name}.index")
    return out


def spread_index(index: View, how: Advanced, shape: Sequence[int]) -> View:
    """An index of shape ``how.shape`` over the whole result."""
    before, after = how.position, len(shape) - how.position - len(how.shape)
    strides = (*((0,) * before), *index.strides, *((0,) * after))
    return View(index.storage, tuple(shape), strides, index.offset)


def _lower_index_tensor(lowering: Lowering, node: Node) -> None:
    how = advanced(node)
    x = lowering.read(node.tensor("self"))
    found = indexed(lowering, node, x, how)
    if found is None:
        raise TypeError("a copy was allowed")
    source, index = found
    out = lowering.define(node.output, image=False, strided=True)
    picks = spread_index(index, how, out.shape)
    wrap = len(how.indices) == 1
    emit_gather(lowering, node, source, picks, out, wrap=wrap)


RECORDS = (
    OpRecord(
        "aten.gather.default",
        "self:T, dim, index:T, sparse_grad=False",
        lower=_lower_gather,
        check=_check_gather,
        dtypes=INDEXABLE,
    ),
    OpRecord(
        "aten.take_along_dim.default",
        "self:T, indices:T, dim=None",
        lower=_lower_take_along,
        check=_check_take_along,
        dtypes=INDEXABLE,
    ),
    OpRecord(
        "aten.take.default",
        "self:T, index:T",
        lower=_lower_take,
        check=_check_take,
        dtypes=INDEXABLE,
    ),
    OpRecord(
        "aten.index.Tensor",
        "self:T, indices:T[]",
        lower=_lower_index_tensor,
        check=_check_index_tensor,
        dtypes=INDEXABLE,
    ),
)
