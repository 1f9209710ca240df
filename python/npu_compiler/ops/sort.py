"""Sorting along one dimension: sort, argsort, topk, msort, kthvalue, median, nanmedian."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from npu_compiler.elementwise import Builder
from npu_compiler.elementwise_dispatch import emit_program
from npu_compiler.graph import Node, Value
from npu_compiler.index_dispatch import Indexed, emit_gather
from npu_compiler.kernels.reduce import ARG_OPS
from npu_compiler.kernels.sort import MAX_SORT_LENGTH
from npu_compiler.ops.arguments import axis, integer, require, same_shape
from npu_compiler.ops.record import ALL, FLOATS, OpRecord
from npu_compiler.ops.rows import emit_rows, with_axis, zero_paddings
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


def _dim(node: Node) -> int:
    """The sorted dimension; msort has none of its own, and sorts the first."""
    rank = node.tensor("self").rank
    return axis(node.args.get("dim", 0), rank)


def _is_flat(node: Node) -> bool:
    """Whether all elements are one row: a median without ``dim``."""
    return node.op_type in ("aten.median.default", "aten.nanmedian.default")


def _length(node: Node) -> int:
    x = node.tensor("self")
    if _is_flat(node):
        return x.numel
    return x.shape[_dim(node)] if x.rank else 1


def _check_length(node: Node) -> int:
    length = _length(node)
    require(
        length <= MAX_SORT_LENGTH,
        f"it can sort up to {MAX_SORT_LENGTH} values, the dimension has {length}",
    )
    return length


def _results(node: Node) -> tuple[Value | None, Value | None]:
    """Values and indices; an argsort has no values, an msort no indices."""
    if len(node.outputs) == 2:
        return node.outputs[0], node.outputs[1]
    if ".argsort." in node.op_type:
        return None, node.output
    return node.output, None


def _check_results(node: Node, shape: tuple[int, ...]) -> None:
    values, indices = _results(node)
    x = node.tensor("self")
    for value, dtype in ((values, x.dtype), (indices, "int64")):
        if value is not None:
            same_shape(node, shape, value.index)
            require(value.dtype == dtype, f"the result must be {dtype}, it is {value.dtype}")


def _check_sort(node: Node) -> str | None:
    _check_length(node)
    _check_results(node, node.tensor("self").shape)
    return None


def _check_topk(node: Node) -> str | None:
    x, length = node.tensor("self"), _check_length(node)
    k = integer(node.args["k"], "k")
    require(0 <= k <= length, f"k is {k}, the dimension has {length} values")
    dim = _dim(node)
    _check_results(node, tuple(k if d == dim else n for d, n in enumerate(x.shape)))
    return None


def _lower_sort(lowering: Lowering, node: Node) -> None:
    source = node.tensor("self")
    x = lowering.read(source)
    image = lowering.is_image(source)
    values, indices = _results(node)
    shape = next(v.shape for v in (values, indices) if v is not None)
    y = (
        lowering.temporary(f"{node.name}.values", shape, x.dtype)
        if values is None
        else lowering.define(values, image=image)
    )
    index = (
        lowering.temporary(f"{node.name}.indices", shape, "int64")
        if indices is None
        else lowering.define(indices, image=image)
    )
    largest = node.args.get("largest", node.args.get("descending", False))
    writes = {"y": with_axis(y), "index": with_axis(index)}
    fields = {"descending": int(bool(largest))}
    emit_rows(lowering, node, "sort", fields, [_dim(node)], {"x": with_axis(x)}, writes)
    zero_paddings(lowering, node, y, index)


def _check_kth(node: Node) -> str | None:
    """kthvalue and median: one value of each row."""
    x, length = node.tensor("self"), _check_length(node)
    require(length >= 1, f"{list(x.shape)} has no values to choose from")
    k = _kth(node)
    require(1 <= k <= length, f"k is {k}, the dimension has {length} values")
    if _is_flat(node):
        _check_results(node, ())
        return None
    dim, keep = _dim(node), node.args.get("keepdim")
    dims = [d for d in range(x.rank) if d != dim or keep]
    _check_results(node, tuple(1 if d == dim else x.shape[d] for d in dims))
    return None


def _kth(node: Node) -> int:
    return integer(node.args["k"], "k") if "k" in node.args else (_length(node) + 1) // 2


def _lower_kth(lowering: Lowering, node: Node) -> None:
    """Sort the rows, NaN last, as far as needed, and pick. A median is NaN where there is one."""
    x = with_axis(lowering.read(node.tensor("self")))
    if _is_flat(node):
        x = lowering.contiguous(x, node).reshape((_length(node),)) or x
    dim, k = 0 if _is_flat(node) else _dim(node), _kth(node)
    spots_nan = "k" not in node.args and node.tensor("self").dtype in FLOATS
    length = x.shape[dim] if spots_nan else k
    shape = (*x.shape[:dim], length, *x.shape[dim + 1 :])
    found = {
        "y": lowering.temporary(f"{node.name}.values", shape, x.dtype),
        "index": lowering.temporary(f"{node.name}.indices", shape, "int64"),
    }
    emit_rows(lowering, node, "sort", {"descending": 0}, [dim], {"x": x}, found)
    if spots_nan and ".nanmedian." in node.op_type:
        _pick_before_nan(lowering, node, dim, found)
        return

    def picked(view: View, place: int, out: View) -> View:
        return (
            view.slice(dim, place, 1) if len(out.shape) == len(x.shape) else view.drop(dim, place)
        )

    for value, view in zip(node.outputs, found.values(), strict=False):
        out = lowering.define(value, image=False)
        b = Builder()
        result = b.load(picked(view, k - 1, out))
        if spots_nan:
            last = b.load(picked(found["y"], length - 1, out))
            other = b.load(picked(view, length - 1, out))
            select = "select_f" if result.type == "f" else "select_l"
            result = b(select, b("eq_f", last, last), result, other)
        emit_program(lowering, out, b, result, node)


def _pick_before_nan(lowering: Lowering, node: Node, dim: int, found: dict[str, View]) -> None:
    """The median of what lies before the first NaN of each sorted row; NaN where nothing does."""
    y = found["y"]
    length = y.shape[dim]
    rows = y.drop(dim, length - 1)
    first = lowering.temporary(f"{node.name}.nan", rows.shape, "int64")
    # NaN counts as the largest value.
    reads, writes = {"x": y}, {"y": None, "index": first}
    emit_rows(lowering, node, "arg_reduce", {"op": ARG_OPS["max"]}, [dim], reads, writes)
    b = Builder()
    last = b.load(rows)
    count = b("select_l", b("eq_f", last, last), length, b.load(first))
    # Without any number this is -1: the last value, a NaN.
    place = b("shr_l", b("sub_l", count, 1), 1)
    middle = lowering.temporary(f"{node.name}.place", rows.shape, "int64")
    emit_program(lowering, middle, b, place, node)
    shape = (*y.shape[:dim], 1, *y.shape[dim + 1 :])
    for value, view in zip(node.outputs, found.values(), strict=False):
        out = lowering.define(value, image=False)
        whole = out if len(out.shape) == len(shape) else out.insert(dim)
        emit_gather(lowering, node, Indexed.of(view, dim, shape), middle.insert(dim), whole)


def _record(
    op_type: str,
    signature: str,
    check: Callable[[Node], str | None] = _check_sort,
    lower: Callable[[Lowering, Node], None] = _lower_sort,
) -> OpRecord:
    return OpRecord(op_type, signature, lower=lower, check=check, dtypes=ALL)


RECORDS = (
    _record("aten.sort.default", "self:T, dim=-1, descending=False"),
    _record("aten.sort.stable", "self:T, stable=None, dim=-1, descending=False"),
    _record("aten.argsort.default", "self:T, dim=-1, descending=False"),
    _record("aten.argsort.stable", "self:T, stable, dim=-1, descending=False"),
    _record("aten.msort.default", "self:T"),
    _record("aten.topk.default", "self:T, k, dim=-1, largest=True, sorted=True", _check_topk),
    _record("aten.kthvalue.default", "self:T, k, dim=-1, keepdim=False", _check_kth, _lower_kth),
    *(
        _record(f"aten.{name}.{kind}", signature, _check_kth, _lower_kth)
        for name in ("median", "nanmedian")
        for kind, signature in (("dim", "self:T, dim, keepdim=False"), ("default", "self:T"))
    ),
)
