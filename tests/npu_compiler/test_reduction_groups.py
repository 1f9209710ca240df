"""Reductions take what is elementwise before and behind them into their dispatch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.npu_compiler.harness import Function, check, images

X = (4, 50)
x, y, s = images(*X), images(*X, seed=1), images(4, seed=2)
IMAGE = images(2, 70, 6, 4)
INTEGERS = torch.arange(-100, 100, dtype=torch.int32).reshape(4, 50)


def kernels(function: Callable[..., object], *inputs: torch.Tensor, dtype: str) -> list[str]:
    """Kernels of the compiled function, whose results have been checked."""
    return check(Function(function), *inputs, compute_dtype=dtype).kernels


ONE_DISPATCH: dict[str, tuple[Callable[..., object], tuple[torch.Tensor, ...]]] = {
    "mean_of_squares": (lambda x, y: ((x - y) ** 2).mean(), (x, y)),
    "absolute_values": (lambda x: x.abs().sum(-1, keepdim=True), (x,)),
    "norm_written_out": (lambda x: (x * x).sum(-1).sqrt(), (x,)),
    "dot": (lambda x, y, s: (x * y).sum(-1) * s + 0.5, (x, y, s)),
    "norm_of_difference": (lambda x, y: torch.linalg.vector_norm(x - y, dim=-1), (x, y)),
    "masked_maximum": (lambda x, y: x.masked_fill(y > 0, -1e4).amax(-1), (x, y)),
    "sum_and_epilogue": (lambda x, s: x.sum(-1) * s + 1, (x, s)),
    "columns": (lambda x, y: (x * y).sum(0) + 1, (x, y)),
    "any": (lambda x, y: (x > y).any(-1), (x, y)),
    "all_kept": (lambda x, y: (x > y).all(0, keepdim=True), (x, y)),
    "count": (lambda x, y: torch.count_nonzero(x > y, dim=0), (x, y)),
    "sum_of_bools": (lambda x, y: (x > y).sum(1) * 2 + 1, (x, y)),
    "sum_of_integers": (lambda k: (k * 3 - 7).sum(0), (INTEGERS,)),
    "largest_integer": (lambda k: (k.to(torch.int8) * 3 - 7).amax(0), (INTEGERS,)),
    "product": (lambda x: (x + 1).prod(0), (x,)),
    "several_results": (lambda x: (m := x.abs().mean(-1), m * 2, m > 0.5), (x,)),
    "broadcast": (lambda x, s: (x * s[:, None]).sum(-1), (x, s)),
    "transposed": (lambda x, y: (x - y.T).abs().sum(1), (x, images(50, 4))),
    "image": (lambda x: F.relu(x).mean((2, 3), keepdim=True) * 2, (IMAGE,)),
    "image_channels": (lambda x: (x * 2).sum(1), (IMAGE,)),
    "loss": (lambda x, y: F.mse_loss(torch.tanh(x), y) * 0.5, (x, y)),
    "loss_with_logits": (
        lambda x, y: F.binary_cross_entropy_with_logits(x * 2, torch.sigmoid(y)),
        (x, y),
    ),
    "pairwise_distance": (lambda x, y: torch.exp(-F.pairwise_distance(x * 2, y)), (x, y)),
    "cdist": (lambda x, y: torch.cdist(x, y[:3]), (x, y)),
    "scalar": (lambda x: (x * 2).sum() + 1, (torch.tensor(0.3),)),
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ONE_DISPATCH)
def test_one_dispatch(name: str, dtype: str) -> None:
    function, inputs = ONE_DISPATCH[name]
    assert kernels(function, *inputs, dtype=dtype) == ["map_reduce"]


def test_padded_channels_of_an_image_stay_zero() -> None:
    def forward(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pooled = F.max_pool2d(x, 2)
        mean = (pooled * 3).mean((2, 3), keepdim=True)
        return torch.relu(mean), (torch.cos(F.max_pool2d(x, 3))).sum((2, 3), keepdim=True) + 1

    check(Function(forward), IMAGE, compute_dtype="float32")
    check(Function(forward), IMAGE, compute_dtype="float16")


def test_a_cast_rounds_before_it_is_reduced() -> None:
    found = kernels(lambda x: x.to(torch.bfloat16).sum(-1), images(4, 50), dtype="float32")
    assert found == ["map_reduce"]


def test_what_others_read_is_not_taken_in() -> None:
    def forward(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        grown = torch.exp(x)
        total = grown.sum(-1)
        return grown, total, total * 2

    assert kernels(forward, x, dtype="float32") == ["elementwise", "map_reduce"]


def test_one_of_two_reductions_takes_their_common_reader() -> None:
    def forward(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x * y).sum(-1) / ((x * x).sum(-1) * (y * y).sum(-1)).sqrt().clamp_min(1e-8)

    found = kernels(forward, x, y, dtype="float32")
    assert sorted(found) in (
        ["elementwise", "map_reduce", "reduce", "reduce"],
        ["map_reduce", "map_reduce", "map_reduce"],
    )


def test_more_operands_than_the_kernel_has() -> None:
    many = [images(*X, seed=k) for k in range(8)]

    def forward(*a: torch.Tensor) -> torch.Tensor:
        return (a[0] * a[1] + a[2] * a[3] + a[4] * a[5] + a[6] * a[7]).sum(-1) + 1

    assert kernels(forward, *many, dtype="float32") == ["elementwise", "reduce", "elementwise"]


def test_more_dimensions_than_the_kernel_has() -> None:
    a = images(3, 2, 3, 2, 3, 2, 3, 2)

    def forward(a: torch.Tensor) -> torch.Tensor:
        return (a * a.permute(0, 7, 2, 5, 4, 3, 6, 1)).sum((0, 2, 4, 6)) + 1

    check(Function(forward), a, compute_dtype="float32")


ENDINGS: dict[str, tuple[tuple[int, int], int, list[str]]] = {
    "small_rows": ((16, 1024), 1, ["map_reduce"]),
    "rows": ((64, 1024), 1, ["reduce", "elementwise"]),
    "short_columns": ((64, 1024), 0, ["map_reduce"]),
    "columns": ((1024, 64), 0, ["map_reduce"]),
    "many_columns": ((1024, 512), 0, ["reduce", "elementwise"]),
    "tall_columns": ((5000, 8), 0, ["reduce", "elementwise"]),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_only_an_epilogue_is_taken_in_where_that_is_no_slower(name: str) -> None:
    shape, dim, expected = ENDINGS[name]
    found = kernels(lambda x: x.amax(dim) * 2 + 1, images(*shape), dtype="float32")
    assert found == expected


UNARY = [torch.abs, torch.tanh, torch.neg, lambda v: v * 0.5, lambda v: v + 0.5]
REDUCTIONS: list[Callable[..., torch.Tensor]] = [
    lambda v, d, k: v.float().sum(d, keepdim=k),
    lambda v, d, k: v.float().mean(d, keepdim=k),
    lambda v, d, k: v.float().amax(d, keepdim=k),
    lambda v, d, k: v.float().amin(d, keepdim=k),
    lambda v, d, k: torch.linalg.vector_norm(v.float(), dim=d, keepdim=k),
    lambda v, d, k: torch.linalg.vector_norm(v.float(), 1, dim=d, keepdim=k),
    lambda v, d, k: v.any(d, keepdim=k).float(),
    lambda v, d, k: v.all(d, keepdim=k).float(),
    lambda v, d, k: torch.count_nonzero(v, d).float(),
    lambda v, d, k: (v > 0.2).sum(d, keepdim=k).float(),
]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_random(data: st.DataObject) -> None:
    """Views and chains of any shape before, a reduction over any dimensions, a chain behind it."""
    shape = tuple(data.draw(st.lists(st.sampled_from([1, 2, 3, 5, 20]), min_size=1, max_size=5)))
    other = tuple(1 if data.draw(st.booleans()) else n for n in shape)
    order = data.draw(st.permutations(range(len(shape))))
    dims = data.draw(
        st.lists(st.sampled_from(range(len(shape))), min_size=1, max_size=3, unique=True)
    )
    keep = data.draw(st.booleans())
    before = data.draw(st.lists(st.sampled_from(UNARY), max_size=3))
    reduce = data.draw(st.sampled_from(REDUCTIONS))
    after = data.draw(st.lists(st.sampled_from(UNARY), max_size=2))
    dtype = data.draw(st.sampled_from(["float32", "float16"]))

    def forward(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        value = a.permute(order) * b
        for step in before:
            value = step(value)
        value = reduce(value, dims, keep)
        for step in after:
            value = step(value)
        return value

    lengths = [0] * len(shape)
    for at, d in enumerate(order):
        lengths[d] = shape[at]
    # Values on a coarse grid, so that comparisons are the same in every precision.
    a, b = ((images(*v, seed=k) * 2).round() / 4 for k, v in enumerate((lengths, other)))
    devices = ["cpu", "reference"]
    check(Function(forward), a, b, compute_dtype=dtype, devices=devices)
