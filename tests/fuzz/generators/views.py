"""Arguments of view operators, of operators that move elements, and of those that make tensors."""

from __future__ import annotations

from math import prod

import torch

from tests.fuzz.builder import RejectedError, Value
from tests.fuzz.generators.indexing import dense
from tests.fuzz.registry import Call, generator
from tests.fuzz.sampler import Sampler, Shape


def _regrouped(s: Sampler, shape: Shape) -> list[int]:
    """Another shape of as many elements: neighbours merged, sizes split, ones added."""
    sizes = [n for n in shape if n != 1 or s.chance()]
    for _ in range(s.integer(0, 2)):
        if len(sizes) > 1 and s.chance():
            at = s.integer(0, len(sizes) - 2)
            sizes[at : at + 2] = [sizes[at] * sizes[at + 1]]
        elif sizes:
            at = s.integer(0, len(sizes) - 1)
            factor = s.pick([f for f in (1, 2, 3, 4, 5) if sizes[at] % f == 0])
            sizes[at : at + 1] = [factor, sizes[at] // factor]
    sizes = sizes[:6] if prod(sizes[:6]) == prod(shape) else [prod(shape)]
    if prod(sizes) and s.chance(30) and sizes:
        sizes[s.integer(0, len(sizes) - 1)] = -1
    return sizes


@generator("view.default", "reshape", "_unsafe_view")
def _view(s: Sampler) -> Call:
    x = s.tensor()
    return [x, _regrouped(s, x.shape)], {}


@generator("view_as")
def _view_as(s: Sampler) -> Call:
    x = s.tensor()
    shape = tuple(x.tensor.reshape(_regrouped(s, x.shape)).shape)
    return [x, s.fresh(shape, x.dtype)], {}


@generator("flatten")
def _flatten(s: Sampler) -> Call:
    x = s.tensor()
    low = s.integer(0, max(0, x.rank - 1))
    high = s.integer(low, max(0, x.rank - 1))
    return [x, low, high - x.rank if x.rank and s.chance() else high], {}


@generator("unflatten")
def _unflatten(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    dim = s.dim(x.rank)
    factor = s.pick([f for f in (1, 2, 3, 4) if x.shape[dim] % f == 0])
    sizes = [factor, -1 if s.chance(30) and x.shape[dim] else x.shape[dim] // factor]
    return [x, dim, sizes], {}


@generator("permute")
def _permute(s: Sampler) -> Call:
    x = s.tensor()
    dims = s.dims(x.rank, least=x.rank)
    return [x, dims], {}


@generator("t.default")
def _t(s: Sampler) -> Call:
    return [s.tensor((0, 2))], {}


@generator("numpy_T", "adjoint", "mT")
def _matrix(s: Sampler) -> Call:
    return [s.tensor(2)], {}


@generator("expand")
def _expand(s: Sampler) -> Call:
    x = s.tensor()
    sizes = [s.integer(1, 4) if n == 1 else -1 if s.chance(30) else n for n in x.shape]
    return [x, [s.integer(1, 3) for _ in range(s.integer(0, 1))] + sizes], {}


@generator("expand_as")
def _expand_as(s: Sampler) -> Call:
    other = s.tensor()
    return [s.fresh(s.broadcast_shape(other.shape), other.dtype), other], {}


@generator("broadcast_to")
def _broadcast_to(s: Sampler) -> Call:
    x = s.tensor()
    return [x, [s.integer(1, 4) if n == 1 else n for n in x.shape]], {}


@generator("unsqueeze")
def _unsqueeze(s: Sampler) -> Call:
    x = s.tensor((0, 4))
    return [x, s.integer(-x.rank - 1, x.rank)], {}


@generator("slice.Tensor")
def _slice(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    dim = s.dim(x.rank)
    start = s.pick([None, 0, 1, -2, s.integer(0, x.shape[dim])])
    end = s.pick([None, 9223372036854775807, -1, x.shape[dim], s.integer(0, x.shape[dim])])
    return [x, dim, start, end, s.pick([1, 1, 2, 3])], {}


@generator("select.int")
def _select(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    dim = s.dim(x.rank)
    if x.shape[dim] == 0:
        raise RejectedError("nothing to select")
    return [x, dim, s.integer(-x.shape[dim], x.shape[dim] - 1)], {}


@generator("narrow.default")
def _narrow(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    dim = s.dim(x.rank)
    start = s.integer(0, x.shape[dim])
    return [x, dim, start, s.integer(0, x.shape[dim] - start)], {}


@generator("split.Tensor", "unsafe_split")
def _split(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    return [x, s.integer(1, 4), s.dim(x.rank)], {}


def _sizes(s: Sampler, total: int) -> list[int]:
    first = s.integer(0, total)
    second = s.integer(0, total - first)
    return [n for n in (first, second, total - first - second) if n or s.chance(20)] or [total]


@generator("split.sizes", "split_with_sizes", "unsafe_split_with_sizes")
def _split_with_sizes(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    dim = s.dim(x.rank)
    sizes = _sizes(s, x.shape[dim])
    return [x, sizes if sum(sizes) == x.shape[dim] else [x.shape[dim]], dim], {}


@generator("chunk", "tensor_split.sections", "unsafe_chunk")
def _chunk(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    return [x, s.integer(1, 4), s.dim(x.rank)], {}


@generator("unbind")
def _unbind(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    return [x, s.dim(x.rank)], {}


@generator("squeeze.dim", "squeeze.dims")
def _squeeze(s: Sampler) -> Call:
    x = s.tensor()
    several = s.record.op_type.endswith("dims")
    return [x, s.dims(x.rank) if several else s.dim(x.rank)], {}


def same_rank(s: Sampler, x: Value, dim: int, size: int | None = None) -> Value:
    """A tensor like ``x`` but for the size of one dimension."""
    shape = list(x.shape)
    shape[dim] = s.integer(0 if s.chance(10) else 1, 5) if size is None else size
    return s.fresh(tuple(shape), x.dtype)


@generator("cat", "concat", "concatenate")
def _cat(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    dim = s.dim(x.rank)
    parts = [x] + [same_rank(s, x, dim) for _ in range(s.integer(0, 3))]
    if s.chance(15):
        parts.append(parts[s.integer(0, len(parts) - 1)])
    return [parts, dim], {}


@generator("hstack", "vstack", "dstack", "row_stack", "column_stack")
def _stacks(s: Sampler) -> Call:
    x = s.tensor((0, 3))
    return [[x, *(s.fresh(x.shape, x.dtype) for _ in range(s.integer(0, 2)))]], {}


@generator("stack")
def _stack(s: Sampler) -> Call:
    x = s.tensor((0, 3))
    parts = [x] + [s.fresh(x.shape, x.dtype) for _ in range(s.integer(0, 2))]
    return [parts, s.integer(-x.rank - 1, x.rank)], {}


@generator("constant_pad_nd", "pad")
def _pad(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    low = 0 if s.chance(70) else -1
    amounts = [s.integer(low, 3) for _ in range(2 * s.integer(1, x.rank))]
    if s.record.op_type == "aten.pad.default" and s.chance(40):
        mode = s.pick(["reflect", "replicate", "circular"])
        return _pad_2d(s)[0] + [mode] if s.chance() else _pad_1d(s)[0] + [mode], {}
    if s.record.op_type == "aten.pad.default":
        value = s.number(x.dtype) if s.chance() else None
        return [x, amounts, "constant", value], {}
    return [x, amounts, *([s.number(x.dtype)] if s.chance() else [])], {}


@generator("reflection_pad1d", "replication_pad1d")
def _pad_1d(s: Sampler) -> Call:
    x = s.tensor((2, 3), shape=lambda rank: (*s.shape(rank - 1), s.integer(3, 9)))
    return [x, [s.integer(0, 2), s.integer(0, 2)]], {}


@generator("reflection_pad2d", "replication_pad2d")
def _pad_2d(s: Sampler) -> Call:
    x = s.float(4, shape=lambda _: (*s.shape(4)[:2], s.integer(3, 9), s.integer(3, 9)))
    return [x, [s.integer(0, 2) for _ in range(4)]], {}


@generator("reflection_pad3d", "replication_pad3d")
def _pad_3d(s: Sampler) -> Call:
    x = s.float(5, shape=lambda _: (1, s.integer(1, 3), *(s.integer(3, 5) for _ in range(3))))
    return [x, [s.integer(0, 2) for _ in range(6)]], {}


@generator("_pad_circular")
def _pad_circular(s: Sampler) -> Call:
    return _pad_2d(s) if s.chance() else _pad_1d(s)


@generator("im2col")
def _im2col(s: Sampler) -> Call:
    x = s.float(4, shape=lambda _: (s.integer(1, 2), s.integer(1, 5), *(s.integer(5, 9),) * 2))
    return [x, *([s.integer(1, n), s.integer(1, n)] for n in (3, 2)), [1, 0], [2, 1]], {}


@generator("roll")
def _roll(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    dims = s.dims(x.rank)
    shifts = [s.integer(-3, 3) for _ in dims] or [s.integer(-3, 3)]
    return [x, shifts, dims], {}


@generator("repeat")
def _repeat(s: Sampler) -> Call:
    x = s.tensor((0, 3))
    return [x, [s.integer(1, 3) for _ in range(x.rank + s.integer(0, 1))]], {}


@generator("tile")
def _tile(s: Sampler) -> Call:
    x = s.tensor((0, 3))
    return [x, [s.integer(1, 3) for _ in range(s.integer(0, x.rank + 1))]], {}


@generator("repeat_interleave.self_int")
def _repeat_interleave(s: Sampler) -> Call:
    x = s.tensor((1, 3))
    return [x, s.integer(1, 3), s.dim(x.rank)], {}


@generator("tril", "triu")
def _triangle(s: Sampler) -> Call:
    return [s.tensor((2, 4)), s.integer(-3, 3)], {}


@generator("diagonal")
def _diagonal(s: Sampler) -> Call:
    x = s.tensor((2, 4))
    first, second = s.dims(x.rank, least=x.rank)[:2]
    return [x, s.integer(-2, 2), first, second], {}


@generator("movedim", "moveaxis")
def _movedim(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    if s.record.op_type.endswith(".int"):
        return [x, s.dim(x.rank), s.dim(x.rank)], {}
    return [x, s.dims(x.rank, least=1)[:1], s.dims(x.rank, least=1)[:1]], {}


@generator("tensor_split.indices")
def _tensor_split(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    dim = s.dim(x.rank)
    size = x.shape[dim]
    return [x, sorted([s.integer(0, size), s.integer(0, size)]), dim], {}


@generator("as_strided")
def _as_strided(s: Sampler) -> Call:
    """Of a dense tensor: what a view of a view shows depends on its base."""
    x = s.leaf(s.values((s.integer(6, 30),), s.dtype(), "normal"))
    size, stride = [s.integer(1, 3), s.integer(1, 2)], [s.integer(0, 2), s.integer(1, 2)]
    return [x, size, stride, s.integer(0, 1)], {}


@generator("rot90")
def _rot90(s: Sampler) -> Call:
    x = s.tensor((2, 4))
    return [x, s.integer(-2, 3), s.dims(x.rank, least=x.rank)[:2]], {}


@generator("diag_embed")
def _diag_embed(s: Sampler) -> Call:
    x = s.tensor((1, 3))
    return [x, s.integer(-2, 2), *s.pick([(-2, -1), (0, 1), (1, 0), (-1, 0)])], {}


@generator("diagonal_scatter")
def _diagonal_scatter(s: Sampler) -> Call:
    x = dense(s, (2, 4))
    first, second = s.dims(x.rank, least=x.rank)[:2]
    part = x.tensor.diagonal(0, first, second)
    return [x, s.fresh(tuple(part.shape), x.dtype), 0, first, second], {}


@generator("broadcast_tensors")
def _broadcast_tensors(s: Sampler) -> Call:
    x = s.tensor()
    return [[x, *(s.broadcast(x) for _ in range(s.integer(0, 2)))]], {}


@generator("meshgrid")
def _meshgrid(s: Sampler) -> Call:
    x = s.tensor(1)
    parts = [x, *(s.fresh((s.integer(1, 5),), x.dtype) for _ in range(s.integer(0, 2)))]
    indexing = s.pick(["ij", "xy"])
    return ([parts], {"indexing": indexing}) if "indexing" in s.record.op_type else ([parts], {})


@generator("tril_indices", "triu_indices")
def _triangle_indices(s: Sampler) -> Call:
    return [s.integer(1, 6), s.integer(1, 6), s.integer(-2, 2)], {}


@generator("unfold")
def _unfold(s: Sampler) -> Call:
    x = s.tensor((1, 3))
    dim = s.dim(x.rank)
    return [x, dim, s.integer(1, max(1, x.shape[dim])), s.integer(1, 3)], {}


@generator("pixel_shuffle")
def _pixel_shuffle(s: Sampler) -> Call:
    r = s.integer(1, 3)
    x = s.float(4, shape=lambda _: (s.integer(1, 2), r * r * s.integer(1, 5), *s.shape(2)))
    return [x, r], {}


@generator("pixel_unshuffle")
def _pixel_unshuffle(s: Sampler) -> Call:
    r = s.integer(1, 3)
    x = s.float(4, shape=lambda _: (1, s.integer(1, 5), r * s.integer(1, 3), r * s.integer(1, 3)))
    return [x, r], {}


@generator("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(s: Sampler) -> Call:
    groups = s.integer(1, 4)
    x = s.float(4, shape=lambda _: (s.integer(1, 2), groups * s.integer(1, 6), *s.shape(2)))
    return [x, groups], {}


def _cast(s: Sampler) -> torch.dtype:
    """A dtype to convert to. What NaN and infinities become as integers is undefined."""
    name = s.pick(sorted(s.record.dtypes))
    s.special = s.special and "float" in name
    return getattr(torch, name)


@generator("to.dtype", "_to_copy", "to.dtype_layout")
def _to(s: Sampler) -> Call:
    target = _cast(s)
    x = s.tensor()
    if s.record.op_type == "aten.to.dtype":
        return [x, target], {}
    return [x], {"dtype": target}


@generator("to.device")
def _to_device(s: Sampler) -> Call:
    target = _cast(s)
    return [s.tensor(), torch.device("cpu"), target], {}


@generator("type_as", "to.other")
def _type_as(s: Sampler) -> Call:
    s.special = False
    return [s.tensor(), s.tensor(dtype=s.dtype())], {}


@generator("copy.default")
def _copy(s: Sampler) -> Call:
    s.special = False
    x = s.tensor()
    return [x, s.fresh(s.broadcast_shape(x.shape), s.dtype())], {}


@generator("fill.Tensor")
def _fill(s: Sampler) -> Call:
    x = s.tensor()
    return [x, s.fresh((), x.dtype)], {}


def _size(s: Sampler) -> list[int]:
    return list(s.shape(s.integer(0, 4)))


def _made(s: Sampler) -> dict[str, object]:
    return {"dtype": getattr(torch, s.dtype())}


@generator("zeros", "ones", "empty")
def _zeros(s: Sampler) -> Call:
    return [_size(s)], _made(s)


@generator("full")
def _full(s: Sampler) -> Call:
    dtype = s.dtype()
    value = s.chance() if dtype == "bool" else s.number(dtype)
    return [_size(s), value], {"dtype": getattr(torch, dtype)}


@generator("new_zeros", "new_ones", "new_empty")
def _new(s: Sampler) -> Call:
    return [s.tensor(), _size(s)], {}


@generator("new_full")
def _new_full(s: Sampler) -> Call:
    x = s.tensor()
    return [x, _size(s), s.number(x.dtype)], {}


@generator("arange.default", "arange.start", "arange.start_step")
def _arange(s: Sampler) -> Call:
    dtype = s.dtype([s.float_dtype, "int64", "int32"])
    end = s.integer(0, 20)
    args = {"default": [end], "start": [-3, end], "start_step": [-3, end, s.integer(1, 3)]}
    return args[s.record.op_type.split(".")[2]], {"dtype": getattr(torch, dtype)}


@generator("scalar_tensor")
def _scalar_tensor(s: Sampler) -> Call:
    dtype = s.dtype()
    return [s.number(dtype)], {"dtype": getattr(torch, dtype)}


@generator("linspace")
def _linspace(s: Sampler) -> Call:
    return [-1.5, 2.0, s.integer(1, 9)], {"dtype": getattr(torch, s.float_dtype)}


@generator("eye")
def _eye(s: Sampler) -> Call:
    sizes = [s.integer(1, 6)] + ([s.integer(1, 6)] if s.record.op_type.endswith(".m") else [])
    return sizes, {"dtype": getattr(torch, s.dtype())}
