"""Arguments of operators that take indices: in range, and without repetitions where they write."""

from __future__ import annotations

from typing import Any

import torch
from torch._prims_common import is_non_overlapping_and_dense_or_false

from tests.fuzz.builder import RejectedError, Value
from tests.fuzz.registry import Call, generator
from tests.fuzz.sampler import Sampler


def _sized(s: Sampler, x: Value) -> int:
    """A dimension that has elements."""
    dim = s.dim(x.rank)
    if x.rank and x.shape[dim] == 0:
        raise RejectedError("an empty dimension")
    return dim


def dense(s: Sampler, ranks: tuple[int, int]) -> Value:
    """A tensor whose elements lie side by side: what PyTorch's operators named scatter make of
    views that overlap is an accident."""
    x = s.tensor(ranks)
    if not is_non_overlapping_and_dense_or_false(x.tensor):
        raise RejectedError("a view with gaps or overlaps")
    return x


def _distinct(s: Sampler, size: int, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(s.integer(0, 9999))
    return torch.randperm(size, generator=generator)[:count]


@generator("index_select")
def _index_select(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    dim = _sized(s, x)
    dtype = s.pick(["int64", "int32"])
    return [x, dim, s.indices((s.integer(0, 6),), x.shape[dim], dtype)], {}


@generator("gather")
def _gather(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    dim = _sized(s, x)
    shape = [max(0, n - s.integer(0, 1)) for n in x.shape]
    shape[dim] = s.integer(1, 6)
    return [x, dim, s.indices(tuple(shape), x.shape[dim])], {}


@generator("take_along_dim")
def _take_along_dim(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    dim = _sized(s, x)
    shape = list(x.shape)
    shape[dim] = s.integer(1, 6)
    return [x, s.indices(tuple(shape), x.shape[dim]), dim], {}


@generator("take.default")
def _take(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    return [x, s.indices(s.shape(s.integer(0, 3)), x.tensor.numel())], {}


@generator("embedding")
def _embedding(s: Sampler) -> Call:
    table = s.weight((s.integer(1, 12), s.pick([1, 5, 16, 33])))
    return [table, s.indices(s.shape(s.integer(0, 3)), table.shape[0])], {}


@generator("index.Tensor")
def _index(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    if 0 in x.shape:
        raise RejectedError("an empty dimension")
    shape = s.shape(s.integer(0, 2))
    places: list[Value | None] = [
        s.indices(s.broadcast_shape(shape), n) if s.chance(60) else None for n in x.shape
    ]
    if all(place is None for place in places):
        places[0] = s.indices(shape, x.shape[0])
    while places[-1] is None:
        places.pop()
    return [x, places], {}


@generator("index_put", "_unsafe_index_put")
def _index_put(s: Sampler) -> Call:
    x = s.tensor((1, 3))
    if 0 in x.shape:
        raise RejectedError("an empty dimension")
    at = s.integer(0, x.rank - 1)
    count = s.integer(1, x.shape[at])
    index = s.builder.input(_distinct(s, x.shape[at], count))
    picked: list[Value | None] = [None] * at + [index]
    values = s.fresh((*x.shape[:at], count, *x.shape[at + 1 :]), x.dtype)
    return [x, picked, values if s.chance(70) else s.fresh((), x.dtype), s.chance(20)], {}


@generator("index_copy", "index_add")
def _index_copy(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    dim = _sized(s, x)
    count = s.integer(1, x.shape[dim])
    index = s.builder.input(_distinct(s, x.shape[dim], count))
    shape = list(x.shape)
    shape[dim] = count
    return [x, dim, index, s.fresh(tuple(shape), x.dtype)], {}


@generator("index_fill")
def _index_fill(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    dim = _sized(s, x)
    index = s.builder.input(_distinct(s, x.shape[dim], s.integer(1, x.shape[dim])))
    if s.record.op_type.endswith("Tensor"):
        return [x, dim, index, s.fresh((), x.dtype)], {}
    return [x, dim, index, s.number(x.dtype)], {}


def _scatter_index(s: Sampler, x: Value, dim: int) -> Value:
    """Indices that name no place twice."""
    shape = list(x.shape)
    shape[dim] = s.integer(1, x.shape[dim])
    order = torch.rand(x.shape, generator=torch.Generator().manual_seed(s.integer(0, 9999)))
    return s.builder.input(order.argsort(dim).narrow(dim, 0, shape[dim]).contiguous())


@generator("scatter.src", "scatter_add", "scatter.reduce", "scatter_reduce")
def _scatter(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    dim = _sized(s, x)
    index = _scatter_index(s, x, dim)
    args = [x, dim, index, s.fresh(index.shape, x.dtype)]
    if s.record.op_type == "aten.scatter.reduce":
        return args, {"reduce": s.pick(["add", "multiply"])}
    if "reduce" in s.record.op_type:
        modes = ["sum", "amax", "amin", "prod", "mean"]
        return [*args, s.pick(modes)], {"include_self": not s.chance(20)}
    return args, {}


@generator("scatter.value")
def _scatter_value(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    dim = _sized(s, x)
    return [x, dim, _scatter_index(s, x, dim), s.number(x.dtype)], {}


@generator("scatter.value_reduce")
def _scatter_value_reduce(s: Sampler) -> Call:
    (x, dim, index, value), _ = _scatter_value(s)
    return [x, dim, index, value], {"reduce": s.pick(["add", "multiply"])}


@generator("select_scatter")
def _select_scatter(s: Sampler) -> Call:
    x = dense(s, (1, 4))
    dim = _sized(s, x)
    part = tuple(n for d, n in enumerate(x.shape) if d != dim % x.rank)
    return [x, s.fresh(part, x.dtype), dim, s.integer(-x.shape[dim], x.shape[dim] - 1)], {}


@generator("slice_scatter")
def _slice_scatter(s: Sampler) -> Call:
    x = dense(s, (1, 4))
    dim = _sized(s, x)
    start = s.integer(0, x.shape[dim] - 1)
    end, step = s.integer(start, x.shape[dim]), s.integer(1, 2)
    part = list(x.shape)
    part[dim] = len(range(start, end, step))
    return [x, s.fresh(tuple(part), x.dtype), dim, start, end, step], {}


@generator("topk")
def _topk(s: Sampler) -> Call:
    x = s.tensor(
        (1, 4),
        s.dtypes(["float32", "float16", "bfloat16", "int64", "int32"]),
        kind="distinct",
        matches=lambda shape: _few(shape),
    )
    dim = s.dim(x.rank)
    return [x, s.integer(0, x.shape[dim]), dim, s.chance(), True], {}


def _few(shape: tuple[int, ...]) -> bool:
    """So few elements that all of them are different in every dtype."""
    total = 1
    for n in shape:
        total *= n
    return total <= 256


@generator("kthvalue")
def _kthvalue(s: Sampler) -> Call:
    kinds = s.dtypes(["float32", "float16", "bfloat16", "int64", "int32"])
    x = s.tensor((1, 4), kinds, kind="distinct", matches=_few)
    dim = _sized(s, x)
    return [x, s.integer(1, x.shape[dim]), dim, s.chance()], {}


@generator("median", "nanmedian")
def _median(s: Sampler) -> Call:
    """Which of equal elements is named is nowhere said."""
    kinds = s.dtypes(["float32", "float16", "bfloat16", "int64", "int32"])
    x = s.tensor((1, 4), kinds, kind="distinct", matches=_few)
    return ([x] if s.record.op_type.endswith(".default") else [x, _sized(s, x), s.chance()]), {}


@generator("diff")
def _diff(s: Sampler) -> Call:
    x = s.tensor((1, 4))
    dim = s.dim(x.rank)
    found: list[Any] = [x, s.integer(1, 3), dim]
    for _ in range(2):
        shape = list(x.shape)
        shape[dim] = s.integer(0, 3)
        found.append(s.fresh(tuple(shape), x.dtype) if s.chance(30) else None)
    return found, {}


@generator("sort.default", "argsort.default", "msort")
def _sort(s: Sampler) -> Call:
    x = s.tensor(
        (0, 4),
        s.dtypes(["float32", "float16", "bfloat16", "int64", "int32"]),
        kind="distinct",
        matches=_few,
    )
    return [x] if "msort" in s.record.op_type else [x, s.dim(x.rank), s.chance()], {}


@generator("sort.stable", "argsort.stable")
def _stable_sort(s: Sampler) -> Call:
    x = s.tensor((0, 4))
    return [x], {"stable": True, "dim": s.dim(x.rank), "descending": s.chance()}


@generator("one_hot")
def _one_hot(s: Sampler) -> Call:
    return [s.indices(s.shape(s.integer(0, 2)), 7), 7], {}


@generator("masked_scatter")
def _masked_scatter(s: Sampler) -> Call:
    x = s.tensor((0, 4))
    mask = s.fresh(s.broadcast_shape(x.shape), "bool")
    total = 1
    for n in x.shape:
        total *= n
    return [x, mask, s.fresh((total + s.integer(1, 3),), x.dtype)], {}
