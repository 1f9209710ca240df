"""View operators: they name other elements of the same memory, or the same in another order.

Each gives the strided views of its outputs. Where strides cannot show a result (a reshape across a
gap), the caller copies the input to row-major order first and asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from npu_compiler.graph import Node
from npu_compiler.ops.arguments import axis, integer, integers, require
from npu_compiler.ops.record import COPYABLE, OpRecord
from npu_compiler.view import View

Views = list[View] | None


def _reshaped(view: View, shape: Sequence[int]) -> Views:
    found = view.reshape(shape)
    return None if found is None else [found]


def _to_declared(node: Node, x: View) -> Views:
    """A reshape; the IR's static output shape is the target."""
    require(
        x.numel == node.output.numel,
        f"{list(x.shape)} cannot be viewed as {list(node.output.shape)}",
    )
    return _reshaped(x, node.output.shape)


def _permute(node: Node, x: View) -> Views:
    axes = [axis(d, len(x.shape), "dims") for d in integers(node.args["dims"], "dims")]
    require(sorted(axes) == list(range(len(x.shape))), f"dims {axes} are no permutation")
    return [x.permute(axes)]


def _t(node: Node, x: View) -> Views:
    require(len(x.shape) <= 2, f"t() needs at most 2 dimensions, got {list(x.shape)}")
    return [x.permute(tuple(reversed(range(len(x.shape)))))]


def _reverse(node: Node, x: View) -> Views:
    return [x.permute(tuple(reversed(range(len(x.shape)))))]


def _squeeze(node: Node, x: View) -> Views:
    rank = len(x.shape)
    given = node.args.get("dim")
    dims = range(rank) if given is None else [axis(d, rank) for d in integers(given, "dim")]
    for d in sorted(set(dims), reverse=True):
        if rank and x.shape[d] == 1:
            x = x.drop(d)
    return [x]


def _unsqueeze(node: Node, x: View) -> Views:
    return [x.insert(axis(node.args["dim"], len(x.shape) + 1))]


def _expand(node: Node, x: View) -> Views:
    sizes = integers(node.args["size"], "size")
    extra = len(sizes) - len(x.shape)
    require(extra >= 0, f"{list(x.shape)} cannot be expanded to {list(sizes)}")
    shape = []
    for i, n in enumerate(sizes):
        own = x.shape[i - extra] if i >= extra else 1
        n = own if n == -1 and i >= extra else n
        require(n == own or own == 1, f"{list(x.shape)} cannot be expanded to {list(sizes)}")
        shape.append(n)
    return [x.expand(shape)]


def _expand_as(node: Node, x: View) -> Views:
    return [x.expand(node.tensor("other").shape)]


def _bounds(start: int | None, end: int | None, size: int) -> tuple[int, int]:
    start = None if start is None else integer(start, "start")
    end = None if end is None else integer(end, "end")
    first = 0 if start is None else start + size if start < 0 else start
    last = size if end is None else end + size if end < 0 else end
    first = min(max(first, 0), size)
    return first, min(max(last, first), size)


def slice_of(node: Node, x: View) -> View:
    """The slice that a node's arguments describe."""
    args = node.args
    dim = axis(args["dim"], len(x.shape))
    step = integer(args["step"], "step")
    require(step >= 1, f"step must be positive, got {step}")
    start, end = _bounds(args["start"], args["end"], x.shape[dim])
    return x.slice(dim, start, -(-(end - start) // step), step)


def select_of(node: Node, x: View) -> View:
    """The elements at the index that a node's arguments name."""
    require(bool(x.shape), "a 0-d tensor has nothing to select")
    dim = axis(node.args["dim"], len(x.shape))
    require(x.shape[dim] > 0, f"dimension {dim} of {list(x.shape)} has nothing to select")
    return x.drop(dim, axis(node.args["index"], x.shape[dim], "index"))


def _narrow(node: Node, x: View) -> Views:
    dim = axis(node.args["dim"], len(x.shape))
    start = integer(node.args["start"], "start")
    start += x.shape[dim] if start < 0 else 0
    length = integer(node.args["length"], "length")
    require(
        start >= 0 and length >= 0 and start + length <= x.shape[dim],
        f"start {start} and length {length} exceed dimension {dim} of {list(x.shape)}",
    )
    return [x.slice(dim, start, length)]


def _parts(x: View, dim: int, sizes: Sequence[int]) -> Views:
    require(sum(sizes) == x.shape[dim], f"sizes {list(sizes)} do not add up to {x.shape[dim]}")
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [x.slice(dim, start, size) for start, size in zip(starts, sizes, strict=True)]


def _split(node: Node, x: View) -> Views:
    dim = axis(node.args["dim"], len(x.shape))
    size = integer(node.args["split_size"], "split_size")
    total = x.shape[dim]
    require(size >= 1 or total == 0, f"split_size must be positive, got {size}")
    count = max(1, -(-total // size)) if size else 1
    return _parts(x, dim, [min(size, total - i * size) for i in range(count)])


def _split_with_sizes(node: Node, x: View) -> Views:
    dim = axis(node.args["dim"], len(x.shape))
    return _parts(x, dim, integers(node.args["split_sizes"], "split_sizes"))


def _chunk(node: Node, x: View) -> Views:
    dim = axis(node.args["dim"], len(x.shape))
    chunks = integer(node.args["chunks"], "chunks")
    require(chunks >= 1, f"chunks must be positive, got {chunks}")
    total = x.shape[dim]
    size = -(-total // chunks)
    if size == 0:
        return _parts(x, dim, [0] * chunks)
    return _parts(x, dim, [min(size, total - at) for at in range(0, total, size)])


def _unbind(node: Node, x: View) -> Views:
    dim = axis(node.args["dim"], len(x.shape))
    return [x.drop(dim, i) for i in range(x.shape[dim])]


def _flatten(node: Node, x: View) -> Views:
    rank = len(x.shape)
    first = axis(node.args["start_dim"], rank, "start_dim")
    last = axis(node.args["end_dim"], rank, "end_dim")
    require(first <= last, f"start_dim {first} lies behind end_dim {last}")
    shape = (*x.shape[:first], prod(x.shape[first : last + 1]), *x.shape[last + 1 :])
    return _reshaped(x, shape if rank else (1,))


def _unflatten(node: Node, x: View) -> Views:
    return _to_declared(node, x)


def _movedim(node: Node, x: View) -> Views:
    rank = len(x.shape)
    source = [axis(d, rank, "source") for d in integers(node.args["source"], "source")]
    target = [
        axis(d, rank, "destination") for d in integers(node.args["destination"], "destination")
    ]
    require(
        len(source) == len(target) == len(set(source)) == len(set(target)),
        f"source {source} and destination {target} must be as many different dimensions",
    )
    order: list[int | None] = [None] * rank
    for d, place in zip(source, target, strict=True):
        order[place] = d
    rest = iter(d for d in range(rank) if d not in source)
    return [x.permute([next(rest) if d is None else d for d in order])]


def _swap(first: str, second: str) -> Callable[[Node, View], Views]:
    def swapped(node: Node, x: View) -> Views:
        rank = len(x.shape)
        axes = list(range(rank))
        if rank:
            a, b = axis(node.args[first], rank, first), axis(node.args[second], rank, second)
            axes[a], axes[b] = axes[b], axes[a]
        return [x.permute(axes)]

    return swapped


def _matrix_transpose(node: Node, x: View) -> Views:
    rank = len(x.shape)
    require(rank >= 2, f"it needs at least 2 dimensions, got {list(x.shape)}")
    return [x.permute((*range(rank - 2), rank - 1, rank - 2))]


def diagonal_of(node: Node, x: View) -> View:
    """The diagonal that a node's arguments describe."""
    rank = len(x.shape)
    a, b = axis(node.args["dim1"], rank, "dim1"), axis(node.args["dim2"], rank, "dim2")
    require(a != b, f"dim1 and dim2 are both {a}")
    return diagonal(x, a, b, integer(node.args["offset"], "offset"))


def diagonal(x: View, a: int, b: int, offset: int) -> View:
    """The elements whose index in ``b`` is that in ``a`` plus ``offset``, as a new last axis."""
    down, right = max(-offset, 0), max(offset, 0)
    length = max(0, min(x.shape[a] - down, x.shape[b] - right))
    at = x.offset + (down * x.strides[a] + right * x.strides[b] if length else 0)
    rest = [d for d in range(len(x.shape)) if d not in (a, b)]
    shape = (*(x.shape[d] for d in rest), length)
    return View(x.storage, shape, (*(x.strides[d] for d in rest), x.strides[a] + x.strides[b]), at)


def _unfold(node: Node, x: View) -> Views:
    if not x.shape:
        x = x.insert(0)
    dim = axis(node.args["dimension"], len(x.shape), "dimension")
    size, step = integer(node.args["size"], "size"), integer(node.args["step"], "step")
    require(
        0 <= size <= x.shape[dim] and step >= 1,
        f"windows of {size} every {step} do not fit dimension {dim} of {list(x.shape)}",
    )
    count = (x.shape[dim] - size) // step + 1
    shape = (*x.shape[:dim], count, *x.shape[dim + 1 :], size)
    strides = (*x.strides[:dim], step * x.strides[dim], *x.strides[dim + 1 :], x.strides[dim])
    return [View(x.storage, shape, strides, x.offset)]


def _as_strided(node: Node, x: View) -> Views:
    """Strides are those of PyTorch's memory: the same as a row-major tensor's here."""
    size, stride = integers(node.args["size"], "size"), integers(node.args["stride"], "stride")
    start = node.args["storage_offset"]
    first = 0 if start is None else integer(start, "storage_offset")
    require(len(size) == len(stride), f"size {list(size)} and stride {list(stride)} do not fit")
    require(min((*size, *stride, first), default=0) >= 0, "it has a negative size, stride or start")
    last = first + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    require(
        0 in size or last < x.numel,
        f"size {list(size)} and stride {list(stride)} from {first} leave {x.numel} elements",
    )
    if not x.is_contiguous:
        return None
    return [View(x.storage, size, stride, x.offset + first)]


def _tensor_split(node: Node, x: View) -> Views:
    dim = axis(node.args["dim"], len(x.shape))
    total = x.shape[dim]
    if "sections" in node.args:
        sections = integer(node.args["sections"], "sections")
        require(sections >= 1, f"sections must be positive, got {sections}")
        return _parts(x, dim, [total // sections + (i < total % sections) for i in range(sections)])
    ends = [*integers(node.args["indices"], "indices"), total]
    views, start = [], 0
    for end in ends:
        first, last = _bounds(start, end, total)
        views.append(x.slice(dim, first, last - first))
        start = end
    return views


def _one(show: Callable[[Node, View], View]) -> Callable[[Node, View], Views]:
    return lambda node, x: [show(node, x)]


def _record(op_type: str, signature: str, view: Callable[[Node, View], Views]) -> OpRecord:
    return OpRecord(op_type, signature, view=view, dtypes=COPYABLE)


RECORDS = (
    _record("aten.view.default", "self:T, size", _to_declared),
    _record("aten.reshape.default", "self:T, shape", _to_declared),
    _record("aten._unsafe_view.default", "self:T, size", _to_declared),
    _record("aten.view_as.default", "self:T, other:T", _to_declared),
    _record("aten.flatten.using_ints", "self:T, start_dim=0, end_dim=-1", _flatten),
    _record("aten.unflatten.int", "self:T, dim, sizes", _unflatten),
    _record("aten.permute.default", "self:T, dims", _permute),
    _record("aten.transpose.int", "self:T, dim0, dim1", _swap("dim0", "dim1")),
    _record("aten.t.default", "self:T", _t),
    _record("aten.numpy_T.default", "self:T", _reverse),
    _record("aten.squeeze.default", "self:T", _squeeze),
    _record("aten.squeeze.dim", "self:T, dim", _squeeze),
    _record("aten.squeeze.dims", "self:T, dim", _squeeze),
    _record("aten.unsqueeze.default", "self:T, dim", _unsqueeze),
    _record("aten.expand.default", "self:T, size, implicit=False", _expand),
    _record("aten.expand_as.default", "self:T, other:T", _expand_as),
    _record("aten.slice.Tensor", "self:T, dim=0, start=None, end=None, step=1", _one(slice_of)),
    _record("aten.select.int", "self:T, dim, index", _one(select_of)),
    _record("aten.narrow.default", "self:T, dim, start, length", _narrow),
    _record("aten.split.Tensor", "self:T, split_size, dim=0", _split),
    _record("aten.split_with_sizes.default", "self:T, split_sizes, dim=0", _split_with_sizes),
    _record(
        "aten.split.sizes",
        "self:T, split_size, dim=0",
        lambda n, x: _parts(
            x, axis(n.args["dim"], len(x.shape)), integers(n.args["split_size"], "split_size")
        ),
    ),
    _record("aten.unsafe_split.Tensor", "self:T, split_size, dim=0", _split),
    _record(
        "aten.unsafe_split_with_sizes.default", "self:T, split_sizes, dim=0", _split_with_sizes
    ),
    _record("aten.chunk.default", "self:T, chunks, dim=0", _chunk),
    _record("aten.unsafe_chunk.default", "self:T, chunks, dim=0", _chunk),
    _record("aten.tensor_split.sections", "self:T, sections, dim=0", _tensor_split),
    _record("aten.tensor_split.indices", "self:T, indices, dim=0", _tensor_split),
    _record("aten.reshape_as.default", "self:T, other:T", _to_declared),
    _record("aten.ravel.default", "self:T", _to_declared),
    *(_record(f"aten.atleast_{n}d.default", "self:T", _to_declared) for n in (1, 2, 3)),
    _record("aten.mT.default", "self:T", _matrix_transpose),
    _record("aten.movedim.int", "self:T, source, destination", _movedim),
    _record("aten.movedim.intlist", "self:T, source, destination", _movedim),
    _record("aten.moveaxis.int", "self:T, source, destination", _movedim),
    _record("aten.moveaxis.intlist", "self:T, source, destination", _movedim),
    _record("aten.swapaxes.default", "self:T, axis0, axis1", _swap("axis0", "axis1")),
    _record("aten.swapdims.default", "self:T, dim0, dim1", _swap("dim0", "dim1")),
    _record("aten.broadcast_to.default", "self:T, size", _expand),
    _record("aten.diagonal.default", "self:T, offset=0, dim1=0, dim2=1", _one(diagonal_of)),
    _record("aten.unfold.default", "self:T, dimension, size, step", _unfold),
    _record("aten.as_strided.default", "self:T, size, stride, storage_offset=None", _as_strided),
    *(
        _record(f"aten.{name}.default", "self:T", lambda node, x: [x])
        for name in ("real", "resolve_conj", "resolve_neg")
    ),
    _record("aten.unbind.int", "self:T, dim=0", _unbind),
)
