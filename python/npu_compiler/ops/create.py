"""Tensors made from nothing: arange, full, zeros and their like, whose values are known when the
model is compiled; and those made from indices: eye, tril, one_hot, meshgrid.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from npu_compiler.arrays import Array, cast, numpy_dtype
from npu_compiler.dtypes import FLOATING
from npu_compiler.elementwise import Builder, Register
from npu_compiler.elementwise_dispatch import emit_program
from npu_compiler.graph import Node, Value
from npu_compiler.index_dispatch import Indexed, emit_scatter
from npu_compiler.ops.arguments import axis, integer, integers, number, require, same_shape
from npu_compiler.ops.index_checks import check_index
from npu_compiler.ops.record import ALL, COPYABLE, OpRecord, plain_view
from npu_compiler.ops.views import diagonal
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

_OPTIONS = "dtype=None, layout=None, device=None, pin_memory=None"


def _dtype(node: Node) -> np.dtype[Any]:
    return numpy_dtype(node.output.dtype)


# One value throughout.


def _full(value: Callable[[Node], Any]) -> Callable[[Node], Array]:
    """The declared shape full of ``value(node)``, held once."""

    def filled(node: Node) -> Array:
        dtype = node.output.dtype
        found = value(node)
        exact = found if dtype in FLOATING else int(found)
        # By way of an array of Python's type: out of range values wrap or become infinite.
        wide = np.asarray(exact, np.float64 if dtype in FLOATING else np.int64)
        return np.broadcast_to(cast(wide, dtype), node.output.shape)

    return filled


def _fill_value(node: Node) -> Any:
    return node.args["fill_value"]


def _check_fill(name: str) -> Callable[[Node], str | None]:
    def check(node: Node) -> str | None:
        value = node.args[name]
        number(value, name)
        require(
            node.output.dtype in FLOATING or abs(value) < 1 << 63,
            f"{value!r} is no value of dtype {node.output.dtype}",
        )
        return _check_size(node)

    return check


def _check_size(node: Node) -> str | None:
    if "size" in node.args:
        same_shape(node, integers(node.args["size"], "size"))
    elif isinstance(node.args.get("self"), Value):
        same_shape(node, node.tensor("self").shape)
    return None


def _constant(
    op_type: str,
    signature: str,
    value: Callable[[Node], Array],
    check: Callable[[Node], str | None] = _check_size,
) -> OpRecord:
    return OpRecord(op_type, signature, value=value, check=check, dtypes=ALL)


_zero, _one = _full(lambda node: 0), _full(lambda node: 1)
_filled = _full(_fill_value)


# Sequences.


def _check_arange(node: Node) -> str | None:
    start, end, step = _range(node)
    require(step != 0, "step must not be 0")
    for value, name in ((start, "start"), (end, "end"), (step, "step")):
        require(abs(number(value, name)) < 1 << 63, f"{name}={value!r} is out of range")
    same_shape(node, (max(0, _length(start, end, step)),))
    return None


def _range(node: Node) -> tuple[Any, Any, Any]:
    args = node.args
    return args.get("start", 0), args["end"], args.get("step", 1)


def _length(start: Any, end: Any, step: Any) -> int:
    if all(isinstance(v, int) for v in (start, end, step)):
        return -int((start - end) // step)
    length: int = ceil((end - start) / step)
    return length


def _arange(node: Node) -> Array:
    start, _, step = _range(node)
    count = node.output.numel
    if node.output.dtype in FLOATING:
        return cast(start + np.arange(count, dtype=np.float64) * step, node.output.dtype)
    return cast(int(start) + np.arange(count, dtype=np.int64) * int(step), node.output.dtype)


def _check_linspace(node: Node) -> str | None:
    require(node.output.dtype in FLOATING, f"it is not supported for {node.output.dtype}")
    number(node.args["start"], "start")
    number(node.args["end"], "end")
    same_shape(node, (integer(node.args["steps"], "steps"),))
    return None


def _linspace(node: Node) -> Array:
    points = np.linspace(node.args["start"], node.args["end"], node.output.numel)
    return cast(points, node.output.dtype)


def _check_triangle(node: Node) -> str | None:
    for name in ("row", "col", "offset"):
        integer(node.args[name], name)
    same_shape(node, _triangle(node).shape)
    return None


def _triangle(node: Node) -> Array:
    rows, columns, offset = (node.args[name] for name in ("row", "col", "offset"))
    pick = np.tril_indices if "tril" in node.op_type else np.triu_indices
    return np.stack(pick(rows, offset, columns)).astype(_dtype(node))


# Computed from row and column numbers, which are two short constants.


def _places(lowering: Lowering, b: Builder, shape: tuple[int, ...]) -> tuple[Register, Register]:
    rows = lowering.constant("rows", np.arange(shape[-2], dtype=np.int32)[:, None])
    columns = lowering.constant("columns", np.arange(shape[-1], dtype=np.int32))
    return b.load(rows), b.load(columns)


def _check_band(node: Node) -> str | None:
    x = node.tensor("self")
    require(x.rank >= 2, f"it needs at least 2 dimensions, got {list(x.shape)}")
    require(x.dtype == node.output.dtype, f"the result must be {x.dtype}")
    diagonal = integer(node.args["diagonal"], "diagonal")
    require(abs(diagonal) < 1 << 30, f"diagonal {diagonal} is out of range")
    same_shape(node, x.shape)
    return None


def _lower_band(lowering: Lowering, node: Node) -> None:
    x = node.tensor("self")
    out = lowering.define(node.output, image=lowering.is_image(x), strided=True)
    b = Builder()
    row, column = _places(lowering, b, x.shape)
    edge = b("add_i", row, int(node.args["diagonal"]))
    upper = b("lt_i", edge, column)
    value = b.load(x)
    kind = value.type
    if ".tril." in node.op_type:
        result = b(f"select_{kind}", upper, 0, value)
    else:
        kept = b.negation(b("lt_i", column, edge))
        result = b(f"select_{kind}", kept, value, 0)
    emit_program(lowering, out, b, b.result_for(result, out.dtype), node)


def _check_eye(node: Node) -> str | None:
    rows = integer(node.args["n"], "n")
    same_shape(node, (rows, integer(node.args.get("m", rows), "m")))
    return None


def _lower_eye(lowering: Lowering, node: Node) -> None:
    out = lowering.define(node.output, image=False, strided=True)
    b = Builder()
    row, column = _places(lowering, b, node.output.shape)
    emit_program(lowering, out, b, b.result_for(b("eq_i", row, column), out.dtype), node)


# Places set in a tensor of zeros.


def _zeros(lowering: Lowering, node: Node, *, image: bool = False) -> View:
    out = lowering.define(node.output, image=image)
    name = f"{'+'.join(node.origins)}.fill"
    lowering.copy(lowering.fill(0, out.dtype), out, node, name=name)
    return out


def _check_one_hot(node: Node) -> str | None:
    classes = integer(node.args["num_classes"], "num_classes")
    require(classes >= 1, "num_classes must be given: the largest index depends on the data")
    index = node.tensor("self")
    check_index(index, "self")
    same_shape(node, (*index.shape, classes))
    return None


def _lower_one_hot(lowering: Lowering, node: Node) -> None:
    index = lowering.read(node.tensor("self"))
    out = _zeros(lowering, node)
    shape = (*index.shape, 1)
    target = Indexed.of(
        View(out.storage, out.shape, out.strides, out.offset), len(shape) - 1, shape
    )
    one = lowering.fill(1, out.dtype).expand(shape)
    emit_scatter(lowering, node, target, index.insert(len(shape) - 1), one, wrap=False)


def _diagonal_dims(node: Node) -> tuple[int, int, int]:
    rank = node.output.rank
    args = node.args
    first, second = (axis(args.get(k, d), rank, k) for k, d in (("dim1", -2), ("dim2", -1)))
    require(first != second, f"dim1 and dim2 are both {first}")
    return first, second, integer(args.get("offset", args.get("diagonal", 0)), "offset")


def _check_diag_embed(node: Node) -> str | None:
    x, out = node.tensor("self"), node.output
    require(x.dtype == out.dtype, f"the result must be {x.dtype}")
    require(out.rank == x.rank + 1 and x.rank >= 1, f"{x!r} does not fit {out!r}")
    first, second, offset = _diagonal_dims(node)
    size = x.shape[-1] + abs(offset)
    shape = list(out.shape)
    shape[first] = shape[second] = size
    same_shape(node, shape)
    require(
        diagonal(plain_view(out), first, second, offset).shape == x.shape,
        f"{list(x.shape)} is no diagonal of {list(out.shape)}",
    )
    return None


def _lower_diag_embed(lowering: Lowering, node: Node) -> None:
    x = lowering.read(node.tensor("self"))
    out = _zeros(lowering, node)
    whole = View(out.storage, out.shape, out.strides, out.offset)
    lowering.copy(x, diagonal(whole, *_diagonal_dims(node)), node, name="+".join(node.origins))


# Views of several tensors.


def _tensors(node: Node) -> list[Value]:
    found = [t for t in node.args["tensors"] if isinstance(t, Value)]
    require(len(found) == len(node.args["tensors"]) >= 1, "it needs at least one tensor")
    require(len(found) == len(node.outputs), f"{len(found)} tensors, {len(node.outputs)} results")
    for given, result in zip(found, node.outputs, strict=True):
        require(given.dtype == result.dtype, f"result {result!r} must be {given.dtype}")
    return found


def _grid(node: Node) -> tuple[list[int], list[int]]:
    """The sizes of meshgrid's results, and the dimension along which each tensor lies."""
    tensors = _tensors(node)
    require(all(t.rank <= 1 for t in tensors), f"meshgrid takes 1-D tensors, got {tensors}")
    indexing = node.args.get("indexing", "ij")
    require(indexing in ("ij", "xy"), f"indexing must be 'ij' or 'xy', got {indexing!r}")
    dims = list(range(len(tensors)))
    if indexing == "xy" and len(dims) > 1:
        dims[0], dims[1] = 1, 0
    sizes = [0] * len(dims)
    for tensor, dim in zip(tensors, dims, strict=True):
        sizes[dim] = tensor.numel
    return sizes, dims


def _check_meshgrid(node: Node) -> str | None:
    sizes, _ = _grid(node)
    for index in range(len(node.outputs)):
        same_shape(node, sizes, index)
    return None


def _lower_meshgrid(lowering: Lowering, node: Node) -> None:
    sizes, dims = _grid(node)
    for tensor, dim, output in zip(_tensors(node), dims, node.outputs, strict=True):
        x = lowering.read(tensor)
        step = x.strides[0] if x.strides else 0
        strides = tuple(step if d == dim else 0 for d in range(len(sizes)))
        lowering.alias(output, View(x.storage, tuple(sizes), strides, x.offset))


def _check_broadcast(node: Node) -> str | None:
    tensors = _tensors(node)
    shape = np.broadcast_shapes(*(t.shape for t in tensors))
    for index in range(len(tensors)):
        same_shape(node, shape, index)
    return None


def _lower_broadcast(lowering: Lowering, node: Node) -> None:
    for tensor, output in zip(_tensors(node), node.outputs, strict=True):
        lowering.alias(output, lowering.read(tensor).expand(output.shape))


RECORDS = (
    _constant(
        "aten.full.default", f"size, fill_value, {_OPTIONS}", _filled, _check_fill("fill_value")
    ),
    _constant("aten.zeros.default", f"size, {_OPTIONS}", _zero),
    _constant("aten.ones.default", f"size, {_OPTIONS}", _one),
    _constant("aten.empty.memory_format", f"size, {_OPTIONS}, memory_format=None", _zero),
    _constant("aten.zeros_like.default", f"self:T, {_OPTIONS}, memory_format=None", _zero),
    _constant("aten.ones_like.default", f"self:T, {_OPTIONS}, memory_format=None", _one),
    _constant("aten.empty_like.default", f"self:T, {_OPTIONS}, memory_format=None", _zero),
    _constant(
        "aten.full_like.default",
        f"self:T, fill_value, {_OPTIONS}, memory_format=None",
        _filled,
        _check_fill("fill_value"),
    ),
    _constant("aten.new_zeros.default", f"self:T, size, {_OPTIONS}", _zero),
    _constant("aten.new_ones.default", f"self:T, size, {_OPTIONS}", _one),
    _constant("aten.new_empty.default", f"self:T, size, {_OPTIONS}", _zero),
    _constant(
        "aten.new_full.default",
        f"self:T, size, fill_value, {_OPTIONS}",
        _filled,
        _check_fill("fill_value"),
    ),
    _constant(
        "aten.scalar_tensor.default",
        f"s, {_OPTIONS}",
        _full(lambda node: node.args["s"]),
        _check_fill("s"),
    ),
    _constant("aten.arange.default", f"end, {_OPTIONS}", _arange, _check_arange),
    _constant("aten.arange.start", f"start, end, {_OPTIONS}", _arange, _check_arange),
    _constant("aten.arange.start_step", f"start, end, step=1, {_OPTIONS}", _arange, _check_arange),
    _constant(
        "aten.linspace.default", f"start, end, steps, {_OPTIONS}", _linspace, _check_linspace
    ),
    _constant(
        "aten.tril_indices.default", f"row, col, offset=0, {_OPTIONS}", _triangle, _check_triangle
    ),
    _constant(
        "aten.triu_indices.default", f"row, col, offset=0, {_OPTIONS}", _triangle, _check_triangle
    ),
    OpRecord("aten.eye.default", f"n, {_OPTIONS}", lower=_lower_eye, check=_check_eye, dtypes=ALL),
    OpRecord("aten.eye.m", f"n, m, {_OPTIONS}", lower=_lower_eye, check=_check_eye, dtypes=ALL),
    OpRecord(
        "aten.tril.default",
        "self:T, diagonal=0",
        lower=_lower_band,
        check=_check_band,
        dtypes=COPYABLE,
    ),
    OpRecord(
        "aten.triu.default",
        "self:T, diagonal=0",
        lower=_lower_band,
        check=_check_band,
        dtypes=COPYABLE,
    ),
    OpRecord(
        "aten.one_hot.default",
        "self:T, num_classes=-1",
        lower=_lower_one_hot,
        check=_check_one_hot,
        dtypes=ALL,
    ),
    OpRecord(
        "aten.diag_embed.default",
        "self:T, offset=0, dim1=-2, dim2=-1",
        lower=_lower_diag_embed,
        check=_check_diag_embed,
        dtypes=COPYABLE,
    ),
    OpRecord(
        "aten.meshgrid.default",
        "tensors:T[]",
        lower=_lower_meshgrid,
        check=_check_meshgrid,
        dtypes=COPYABLE,
    ),
    OpRecord(
        "aten.meshgrid.indexing",
        "tensors:T[], indexing",
        lower=_lower_meshgrid,
        check=_check_meshgrid,
        dtypes=COPYABLE,
    ),
    OpRecord(
        "aten.broadcast_tensors.default",
        "tensors:T[]",
        lower=_lower_broadcast,
        check=_check_broadcast,
        dtypes=COPYABLE,
    ),
)
