"""Writes by index tensors: scatter, index_copy, index_put and their like.

Each makes a new version of its first tensor. It is written in place where nothing else needs the
old one, else in a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from npu_compiler.elementwise import Builder
from npu_compiler.elementwise_dispatch import emit_program
from npu_compiler.graph import Node, Value
from npu_compiler.index_dispatch import Indexed, emit_scatter
from npu_compiler.ops.arguments import axis, number, require, same_shape
from npu_compiler.ops.index import Advanced, advanced, indexed, spread_index
from npu_compiler.ops.index_checks import INDEXABLE, check_index, same_dtypes
from npu_compiler.ops.record import FLOATS, OpRecord
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

# The names that PyTorch has for the kernel's ways of combining.
_REDUCTIONS = {
    "sum": "add",
    "add": "add",
    "prod": "mul",
    "multiply": "mul",
    "amax": "amax",
    "amin": "amin",
}


def _target(lowering: Lowering, node: Node, op: str) -> tuple[View, View | None]:
    """Where the new version is written, and where it belongs in the end if that is elsewhere: sums
    and products of half-precision floats are kept in float32 on the way.
    """
    base = node.tensor("self")
    view = lowering.read(base)
    rounds = op in ("add", "mul") and view.dtype in FLOATS - {"float32"}
    if not rounds:
        return lowering.update(node, base), None
    wide = lowering.temporary(f"{node.name}.wide", view.shape, "float32")
    lowering.copy(view, wide, node, name=f"{node.name}.wide")
    out = lowering.define(node.output, image=lowering.is_image(base))
    return wide, out


def _finish(lowering: Lowering, node: Node, target: View, out: View | None) -> None:
    if out is not None:
        lowering.copy(target, out, node, name=f"{node.name}.copy")


def _source(lowering: Lowering, node: Node, name: str, dtype: str) -> View:
    """The tensor or number that is written; a number as a tensor of one element."""
    value = node.args[name]
    if isinstance(value, Value):
        return lowering.read(value)
    return lowering.fill(value, dtype)


# scatter and its relatives: an index of the tensor's rank.


def _check_scatter(node: Node, source: str = "src") -> str | None:
    x, index = node.tensor("self"), node.tensor("index")
    check_index(index, "index")
    same_dtypes(x, node.output)
    same_shape(node, x.shape)
    dim = axis(node.args["dim"], x.rank)
    ranks_fit = max(x.rank, 1) == max(index.rank, 1)
    fits = index.numel == 0 or all(
        n <= m for d, (n, m) in enumerate(zip(index.shape, x.shape, strict=False)) if d != dim
    )
    require(
        ranks_fit and fits,
        f"index {list(index.shape)} does not fit {list(x.shape)} along dim {dim}",
    )
    value = node.args[source]
    if isinstance(value, Value):
        same_dtypes(x, value)
        require(
            max(value.rank, 1) == max(index.rank, 1)
            and all(n <= m for n, m in zip(index.shape, value.shape, strict=True)),
            f"index {list(index.shape)} is larger than {source} {list(value.shape)}",
        )
    else:
        number(value, source)
        require(x.dtype in FLOATS or value == int(value), f"{value!r} is no {x.dtype}")
    return None


def _reduction(args: Mapping[str, Any]) -> str | None:
    require(args["reduce"] in _REDUCTIONS, f"reduce={args['reduce']!r} is not supported")
    require(args.get("include_self", True) is True, "include_self must be true")
    return None


def _lower_scatter(lowering: Lowering, node: Node, op: str, source: str = "src") -> None:
    index = lowering.read(node.tensor("index"))
    target, out = _target(lowering, node, op)
    dim = axis(node.args["dim"], len(target.shape))
    src = _source(lowering, node, source, target.dtype)
    shape = index.shape or (1,)
    y = target if target.shape else target.insert(0)
    if isinstance(node.args[source], Value):
        src = src if src.shape else src.insert(0)
        src = View(src.storage, shape, src.strides, src.offset)
    else:
        src = src.expand(shape)
    emit_scatter(
        lowering, node, Indexed.of(y, dim, shape), index.expand(shape), src, op, wrap=False
    )
    _finish(lowering, node, target, out)


def _scatter(op_type: str, signature: str, op: str | None, source: str = "src") -> OpRecord:
    return OpRecord(
        op_type,
        signature,
        lower=lambda lowering, node: _lower_scatter(
            lowering, node, op or _REDUCTIONS[node.args["reduce"]], source
        ),
        check_attrs=_reduction if op is None else None,
        check=lambda node: _check_scatter(node, source),
        dtypes=INDEXABLE,
    )


# index_copy, index_add, index_fill: a 1-D index of one dimension.


def _check_along(node: Node, source: str) -> str | None:
    x, index = node.tensor("self"), node.tensor("index")
    check_index(index, "index")
    require(index.rank <= 1, f"the index must be 1-D, got {list(index.shape)}")
    same_dtypes(x, node.output)
    same_shape(node, x.shape)
    dim = axis(node.args["dim"], x.rank)
    value = node.args[source]
    if not isinstance(value, Value):
        number(value, source)
        require(x.dtype in FLOATS or value == int(value), f"{value!r} is no {x.dtype}")
        return None
    same_dtypes(x, value)
    shape = (*x.shape[:dim], index.numel, *x.shape[dim + 1 :]) if x.rank else ()
    expected = (shape,) if source == "source" else ((),)
    require(value.shape in expected, f"{source} must be {list(expected[0])}, got {value!r}")
    return None


def _check_alpha(args: Mapping[str, Any]) -> str | None:
    number(args["alpha"], "alpha")
    return None


def _lower_along(lowering: Lowering, node: Node, op: str, source: str) -> None:
    index = lowering.read(node.tensor("index"))
    src = _source(lowering, node, source, lowering.read(node.tensor("self")).dtype)
    if node.args.get("alpha", 1) != 1:
        src = _scaled(lowering, node, src, node.args["alpha"])
    target, out = _target(lowering, node, op)
    dim = axis(node.args["dim"], len(target.shape))
    y = target if target.shape else target.insert(0)
    shape = (*y.shape[:dim], index.numel, *y.shape[dim + 1 :])
    step = index.strides[0] if index.strides else 0
    places = View(
        index.storage,
        shape,
        tuple(step if d == dim else 0 for d in range(len(shape))),
        index.offset,
    )
    src = src if src.shape or not isinstance(node.args[source], Value) else src.insert(0)
    emit_scatter(
        lowering, node, Indexed.of(y, dim, shape), places, src.expand(shape), op, wrap=False
    )
    _finish(lowering, node, target, out)


def _scaled(lowering: Lowering, node: Node, src: View, alpha: float) -> View:
    b = Builder()
    value = b.load(src)
    scaled = b(f"mul_{value.type}", value, alpha)
    dtype = "float32" if src.dtype in FLOATS else src.dtype
    out = lowering.temporary(f"{node.name}.scaled", src.shape, dtype)
    emit_program(lowering, out, b, b.result_for(scaled, dtype), node, name=f"{node.name}.scaled")
    return out


def _along(op_type: str, signature: str, op: str, source: str) -> OpRecord:
    return OpRecord(
        op_type,
        signature,
        lower=lambda lowering, node: _lower_along(lowering, node, op, source),
        check_attrs=_check_alpha if "alpha" in signature else None,
        check=lambda node: _check_along(node, source),
        dtypes=INDEXABLE,
    )


# index_put: advanced indexing.


def _check_index_put(node: Node) -> str | None:
    x, values = node.tensor("self"), node.tensor("values")
    same_dtypes(x, values, node.output)
    same_shape(node, x.shape)
    shape = advanced(node).result(x.shape)
    extra = len(shape) - values.rank
    fits = extra >= 0 and all(n in (1, m) for n, m in zip(values.shape, shape[extra:], strict=True))
    require(fits, f"values {list(values.shape)} do not broadcast to {list(shape)}")
    return None


def _lower_index_put(lowering: Lowering, node: Node) -> None:
    how = advanced(node)
    op = "add" if node.args["accumulate"] else "set"
    values = lowering.read(node.tensor("values"))
    target, out = _target(lowering, node, op)
    found = indexed(lowering, node, target, how, copies=False)
    back = None
    if found is None:
        # The indexed dimensions do not lie behind each other: in row-major memory they do.
        order = [d for d in range(len(target.shape)) if d not in how.dims] + list(how.dims)
        rows = lowering.temporary(
            f"{node.name}.rows", [target.shape[d] for d in order], target.dtype
        )
        lowering.copy(target.permute(order), rows, node, name=f"{node.name}.rows")
        back, plain = target, rows.permute([order.index(d) for d in range(len(order))])
        found = indexed(lowering, node, plain, how, copies=False)
        target = plain
    if found is None:
        raise TypeError("row-major dimensions merge")
    y, index = found
    source = values.expand(how.result(target.shape))
    _scatter_rows(lowering, node, y, index, source, how, op)
    if back is not None:
        lowering.copy(target, back, node, name=f"{node.name}.copy")
        target = back
    _finish(lowering, node, target, out)


def _scatter_rows(
    lowering: Lowering,
    node: Node,
    y: Indexed,
    index: View,
    source: View,
    how: Advanced,
    op: str,
) -> None:
    """The index as one axis, which the kernel walks in order."""
    count, rank = prod(how.shape), len(how.shape)
    if rank != 1:
        flat = index.reshape((count,))
        index = (
            lowering.contiguous(index, node).reshape((count,)) or index if flat is None else flat
        )
        at = how.position
        rest = (*source.shape[:at], *source.shape[at + rank :])
        shape = (*rest[:at], count, *rest[at:])
        merged = source.reshape(shape)
        if merged is None:
            merged = lowering.contiguous(source, node).reshape(shape) or source
        source = merged
        strides = (*y.view.strides[:at], 0, *y.view.strides[at + rank :])
        y = Indexed(View(y.view.storage, shape, strides, y.view.offset), y.extent, y.stride)
        how = Advanced(how.indices, (count,), at)
    places = spread_index(index, how, source.shape)
    wrap = len(how.indices) == 1
    emit_scatter(lowering, node, y, places, source, op, wrap=wrap)


_INDEX_PUT = "self:T, indices:T[], values:T, accumulate=False"
RECORDS = (
    _scatter("aten.scatter.src", "self:T, dim, index:T, src:T", "set"),
    _scatter("aten.scatter.value", "self:T, dim, index:T, value", "set", "value"),
    _scatter("aten.scatter.reduce", "self:T, dim, index:T, src:T, reduce", None),
    _scatter("aten.scatter.value_reduce", "self:T, dim, index:T, value, reduce", None, "value"),
    _scatter("aten.scatter_add.default", "self:T, dim, index:T, src:T", "add"),
    _scatter(
        "aten.scatter_reduce.two", "self:T, dim, index:T, src:T, reduce, include_self=True", None
    ),
    _along("aten.index_copy.default", "self:T, dim, index:T, source:T", "set", "source"),
    _along("aten.index_add.default", "self:T, dim, index:T, source:T, alpha=1", "add", "source"),
    _along("aten.index_fill.int_Scalar", "self:T, dim, index:T, value", "set", "value"),
    _along("aten.index_fill.int_Tensor", "self:T, dim, index:T, value:T", "set", "value"),
    OpRecord(
        "aten.index_put.default",
        _INDEX_PUT,
        lower=_lower_index_put,
        check=_check_index_put,
        dtypes=INDEXABLE,
    ),
)
