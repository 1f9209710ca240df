"""What earlier compilers of this kind got wrong, line by line: the numbers of every device, and the
program that gives them (its kernels in order, its copies, the dtypes that they read and write).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.npu_compiler.harness import Function, check, images, trained_like

Tensor = torch.Tensor
INF = math.inf


@dataclass(frozen=True)
class Pitfall:
    """A function of tensors, the kernels that it becomes and how many of them only copy."""

    function: Callable[..., object]
    inputs: tuple[Tensor, ...]
    kernels: list[str]
    copies: int = 0


def _conv_bn(bias: bool) -> nn.Module:
    torch.manual_seed(0)
    return trained_like(nn.Sequential(nn.Conv2d(3, 5, 3, bias=bias), nn.BatchNorm2d(5)))


@pytest.mark.parametrize("bias", [False, True])
def test_a_folded_batch_norm_leaves_its_bias(bias: bool) -> None:
    """Unseen while the statistics are 0 and 1: then the folded bias is zero."""
    result = check(_conv_bn(bias), images(2, 3, 8, 8))
    (call,) = result.program.kernel_calls
    operands = {view.name: view for view in call.operands if view is not None}
    assert call.kernel_name == "conv2d"
    assert operands["bias"].dtype == "float32" and operands["bias"].shape == (64,)
    assert len(result.program.source_tensors) == (6 if bias else 5)


def _in_place(x: Tensor) -> tuple[Tensor, ...]:
    y = x * 1
    view = y[1:]
    y.mul_(2)
    return view + 1, y


X, VOLUME, ROW = images(2, 5, 6, 7), images(5, 6, 7), images(3, 10)
TABLE = torch.arange(70000.0)[:, None] / 70000
IDS = torch.tensor([[0, 2049, 65505, 69999]])
MASK = images(4, 9, seed=3) > 0
CASES: dict[str, Pitfall] = {
    # Arguments that are easily overlooked.
    "division_by_a_number": Pitfall(lambda x: x / 3, (ROW,), ["elementwise"]),
    "add_alpha": Pitfall(lambda a, b: torch.add(a, b, alpha=2), (ROW, ROW * 2), ["elementwise"]),
    "sub_alpha": Pitfall(lambda a, b: torch.sub(a, b, alpha=3), (ROW, ROW * 2), ["elementwise"]),
    "dilation": Pitfall(lambda x, w: F.conv2d(x, w, dilation=2), (X, images(64, 5, 3, 3)),
                        ["conv2d"]),
    "pool_dilation": Pitfall(lambda x: F.max_pool2d(x, 2, dilation=2), (X,), ["max_pool2d"]),
    "pool_ceil_mode": Pitfall(lambda x: F.max_pool2d(x, 4, 3, ceil_mode=True), (X,),
                              ["max_pool2d"]),
    # Products.
    "addmm": Pitfall(torch.addmm, (images(3), images(4, 5), images(5, 3)),
                     ["gemm", "elementwise"]),
    "baddbmm": Pitfall(lambda s, a, b: torch.baddbmm(s, a, b, beta=0.5, alpha=2),
                       (images(2, 3, 4), images(2, 3, 5), images(2, 5, 4)),
                       ["gemm", "elementwise"]),
    "vector_times_matrix": Pitfall(torch.matmul, (images(5), images(5, 4)), ["gemm"]),
    "matrix_times_vector": Pitfall(torch.matmul, (images(4, 5), images(5)), ["gemm"]),
    "broadcast_batch": Pitfall(torch.matmul, (images(3, 1, 4, 5), images(2, 5, 6)),
                               ["elementwise"] * 2 + ["gemm"] + ["elementwise"] * 2, 3),
    # Dimensions.
    "softmax_of_channels": Pitfall(lambda x: x.softmax(-2), (VOLUME,), ["softmax"]),
    "sum_of_two_dims": Pitfall(lambda x: x.sum((0, -2), keepdim=True), (X,), ["reduce"]),
    "argmax_of_the_first_dim": Pitfall(lambda x: x.argmax(0), (X,), ["arg_reduce"]),
    "mean_of_h_and_w": Pitfall(lambda x: x.mean((2, 3)), (X,), ["reduce"]),
    "adaptive_windows": Pitfall(lambda x: F.adaptive_avg_pool2d(x, (4, 3)), (X,),
                                ["adaptive_avg_pool2d"]),
    "transpose_of_distant_dims": Pitfall(lambda x: x.transpose(0, -1) + 1, (VOLUME,),
                                         ["elementwise"]),
    "slices_with_steps": Pitfall(lambda x: x[:, 1::2, ::3].relu(), (VOLUME,), ["elementwise"]),
    "select_and_expand": Pitfall(lambda x: x.select(1, -2)[:, None].expand(5, 4, 7) * 2,
                                 (VOLUME,), ["elementwise"]),
    "chunks": Pitfall(lambda x: x.chunk(2, 1)[1] * 2, (images(2, 10),), ["elementwise"]),
    # Concatenation: parts are computed in their places.
    "cat_of_three": Pitfall(lambda x: torch.cat([x * 2, x.relu(), x + 1], 1), (ROW,),
                            ["elementwise"]),
    "cat_of_channels": Pitfall(lambda x: torch.cat([F.max_pool2d(x, 1), F.avg_pool2d(x, 1)], 1),
                               (X,), ["max_pool2d", "avg_pool2d", "elementwise"]),
    "cat_with_nothing": Pitfall(lambda x: torch.cat([x[:0].flatten(), x.flatten() * 2]), (ROW,),
                                ["elementwise"] * 2, 1),
    # Fusions that must see more than names.
    "silu_times_gate": Pitfall(lambda g, x: x * F.silu(g), (ROW, ROW * 2), ["elementwise"]),
    "gate_times_silu": Pitfall(lambda g, x: F.silu(g) * x, (ROW, ROW * 2), ["elementwise"]),
    "mask_first": Pitfall(lambda m, x: (m + x).softmax(-1), (images(1, 9), images(4, 9)),
                          ["masked_softmax"]),
    "second_consumer": Pitfall(lambda a, b: ((a + b).relu(), a + b), (ROW, ROW * 2),
                               ["elementwise"]),
    # Infinities and NaN.
    "masked_rows": Pitfall(lambda x, m: x.masked_fill(m, -INF).softmax(-1),
                           (images(4, 9), MASK | (torch.arange(4) == 2)[:, None]),
                           ["elementwise", "softmax"]),
    "nan_and_inf": Pitfall(lambda x: (x.relu(), F.relu6(x), x.clamp(max=1.0)),
                           (torch.tensor([math.nan, INF, -INF, -0.5, 7.0]),), ["elementwise"]),
    # Integers and bools are exact.
    "wide_token_ids": Pitfall(lambda i, w: F.embedding(i, w), (IDS, TABLE), ["gather"]),
    "integer_sums": Pitfall(lambda x: x.cumsum(0) + 1, (torch.tensor([2**40, 3, -(2**50)]),),
                            ["scan", "elementwise"]),
    "casts_convert": Pitfall(lambda x: (x * 3).to(torch.int32) + x.to(torch.bool), (ROW,),
                             ["elementwise"]),
    "integer_masked_fill": Pitfall(lambda x, m: x.masked_fill(m, 2**40) * 3,
                                   (torch.arange(36).reshape(4, 9), MASK), ["elementwise"]),
    # In place.
    "written_and_read_through_a_view": Pitfall(_in_place, (ROW,), ["elementwise"] * 2),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_pitfall(name: str) -> None:
    pitfall = CASES[name]
    result = check(Function(pitfall.function), *pitfall.inputs)
    assert (result.kernels, result.copies) == (pitfall.kernels, pitfall.copies)
    for spec in (*result.program.input_specs, *result.program.output_specs):
        # What the IR declares an integer or a bool is one in memory.
        if not spec.dtype.startswith(("float", "bfloat")):
            assert spec.storage_dtype == spec.dtype


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (5, 1)])
@pytest.mark.parametrize("size", [(3, 5), (33, 80)])
def test_attention_has_no_sizes_of_its_own(heads: tuple[int, int], size: tuple[int, int]) -> None:
    """Any head size, length and number of shared heads, whatever the inputs are called."""
    (q, kv), (length, width) = heads, size

    def forward(third: Tensor, first: Tensor, second: Tensor) -> Tensor:
        y = F.scaled_dot_product_attention(third, first, second, enable_gqa=q != kv)
        return y.transpose(1, 2).flatten(2)

    inputs = [images(2, n, length, width, seed=i) for i, n in enumerate((q, kv, kv))]
    # The other dispatch writes the heads side by side.
    assert check(Function(forward), *inputs).kernels == ["attention", "elementwise"]


@pytest.mark.parametrize("eps", [1e-6, 1e-2, 0.5])
def test_the_epsilon_of_a_norm_is_the_graphs(eps: float) -> None:
    def forward(x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)

    result = check(Function(forward), images(4, 16, scale=0.1))
    assert result.kernels == ["row_norm"]
    assert result.program.kernel_calls[0].params["eps"] == pytest.approx(eps, rel=1e-6)


@pytest.mark.parametrize("batch", [1, 3])
def test_padding_of_channels_is_zero_for_every_batch(batch: int) -> None:
    """A dense buffer beside padded ones; the harness reads the padding of outputs back."""

    def forward(m: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
        y = F.conv2d(x, m.w).exp()
        return y, y.flatten(1), y + 1, y.mean((2, 3))

    result = check(Function(forward, w=images(5, 20, 1, 1)), images(batch, 20, 4, 4, scale=0.3))
    assert result.program.output_specs[0].alloc_shape == (batch, 64, 4, 4)
    assert result.program.output_specs[1].alloc_shape == (batch, 80)
