"""Pattern fusions: what becomes one operator, with right numbers, and what must not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import npu_compiler
from npu_compiler.passes import optimize_graph
from tests.npu_compiler.harness import Function, check, images, ir_of

Unary = Callable[[torch.Tensor], torch.Tensor]


def optimized(
    function: Callable[..., object], *inputs: torch.Tensor, **buffers: torch.Tensor
) -> list[str]:
    """Operators of the optimized graph, and right numbers of the whole program."""
    module = Function(function, **buffers)
    check(module, *inputs)
    graph = optimize_graph(npu_compiler.load_ir_from_dict(ir_of(module, inputs)), check=True)
    return [node.op_type for node in graph.nodes]


X = images(3, 5, 40, seed=1)
GELUS: dict[str, Unary] = {
    "erf_divided": lambda x: x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0))),
    "erf_multiplied": lambda x: 0.5 * x * (torch.erf(x * math.sqrt(0.5)) + 1.0),
    "half_last": lambda x: x * (1.0 + torch.erf(x / 1.41421356)) * 0.5,
    "x_over_two": lambda x: (x / 2) * (1 + torch.erf(x / math.sqrt(2.0))),
    "tanh_pow": lambda x: (
        0.5 * x * (1.0 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))
    ),
    "tanh_products": lambda x: (
        0.5 * x * (1.0 + torch.tanh((x + 0.044715 * (x * x * x)) * 0.7978845608))
    ),
}


@pytest.mark.parametrize("name", GELUS)
def test_gelu_written_out_becomes_gelu(name: str) -> None:
    assert optimized(GELUS[name], X) == ["aten.gelu.default"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * 0.5 * (1.0 + torch.erf(x / 1.5)),
        lambda x: x * 0.5 * (1.1 + torch.erf(x / math.sqrt(2.0))),
        lambda x: x.abs() * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0))),
        lambda x: x * 0.5 * (1.0 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.05 * x**3))),
    ],
)
def test_what_only_looks_like_gelu_stays(function: Unary) -> None:
    assert "aten.gelu.default" not in optimized(function, X)


def test_silu_written_out_becomes_silu_in_either_order() -> None:
    assert optimized(lambda x: x * torch.sigmoid(x), X) == ["aten.silu.default"]
    assert optimized(lambda x: torch.sigmoid(x) * x, X) == ["aten.silu.default"]


def test_a_value_that_others_read_is_not_fused_away() -> None:
    def read_twice(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate = torch.sigmoid(x)
        return x * gate, gate

    def read_later(x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(x)
        return x * gate + gate.sum()

    assert "aten.silu.default" not in optimized(read_twice, X)
    assert "aten.silu.default" not in optimized(read_later, X)


def test_other_operands_are_not_taken_for_the_same() -> None:
    assert "aten.silu.default" not in optimized(lambda x, y: x * torch.sigmoid(y), X, X + 1)


def heads(*shape: int, seed: int) -> torch.Tensor:
    return images(*shape, seed=seed)


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Attention as models write it out."""
    scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores + mask
    return torch.matmul(torch.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype), v)


Q, K, V = heads(2, 3, 7, 10, seed=1), heads(2, 3, 9, 10, seed=2), heads(2, 3, 9, 6, seed=3)
CAUSAL = torch.full((7, 9), -math.inf).triu(1)


@pytest.mark.parametrize("mask", [None, CAUSAL, images(2, 1, 1, 9), images(2, 3, 7, 9)])
def test_attention_written_out_is_one_node(mask: torch.Tensor | None) -> None:
    inputs = (Q, K, V) if mask is None else (Q, K, V, mask)
    assert "npu.eager_attention" in optimized(attention, *inputs)
    assert not any("softmax" in op for op in optimized(attention, *inputs))


def test_attention_by_bmm_with_the_mask_first_and_the_scale_on_the_query() -> None:
    def function(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, m: torch.Tensor
    ) -> torch.Tensor:
        scores = m + torch.bmm(q * 0.3, k.transpose(1, 2))
        return torch.bmm(scores.softmax(-1), v)

    inputs = (Q.flatten(0, 1), K.flatten(0, 1), V.flatten(0, 1), CAUSAL)
    assert optimized(function, *inputs).count("npu.eager_attention") == 1


def test_rows_that_are_masked_entirely_are_nan_as_in_a_softmax() -> None:
    mask = CAUSAL.clone()
    mask[3] = -math.inf
    assert "npu.eager_attention" in optimized(attention, Q, K, V, mask)


def test_attention_weights_that_are_returned_are_computed() -> None:
    def function(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, ...]:
        weights = torch.softmax(q @ k.transpose(-1, -2), -1)
        return weights @ v, weights

    assert "npu.eager_attention" not in optimized(function, Q, K, V)


def test_a_softmax_over_another_dimension_is_no_attention() -> None:
    def function(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.softmax(q @ k.transpose(-1, -2), -2) @ v

    assert "npu.eager_attention" not in optimized(function, Q, K, V)


@pytest.mark.parametrize("written", ["expand", "repeat_interleave", "other_order"])
def test_repeated_heads_are_shared_by_the_kernel(written: str) -> None:
    k, v = heads(2, 2, 9, 10, seed=4), heads(2, 2, 9, 6, seed=5)
    q = heads(2, 6, 7, 10, seed=6)

    def repeat(x: torch.Tensor) -> torch.Tensor:
        b, h, n, d = x.shape
        if written == "expand":
            return x[:, :, None].expand(b, h, 3, n, d).reshape(b, 3 * h, n, d)
        if written == "repeat_interleave":
            return x.repeat_interleave(3, dim=1)
        return x[:, None].expand(b, 3, h, n, d).reshape(b, 3 * h, n, d)

    def function(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, repeat(k), repeat(v))

    ops = optimized(function, q, k, v)
    shared = [op for op in ops if "scaled_dot_product" in op] == ops
    assert shared == (written != "other_order")


def rotary(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


ANGLES = images(2, 1, 7, 10, seed=8)


@pytest.mark.parametrize("x", [Q, Q.transpose(1, 2).contiguous().transpose(1, 2)])
def test_a_rotary_embedding_is_one_node(x: torch.Tensor) -> None:
    assert optimized(rotary, x, ANGLES.cos(), ANGLES.sin()) == ["npu.rotary"]


def test_both_halves_are_results_of_one_dispatch() -> None:
    angles = images(3, 7, 10, seed=8)
    result = check(Function(rotary), Q[0], angles.cos(), angles.sin()[:1])
    assert result.kernels == ["elementwise"]
    assert result.copies == 0


def test_other_rotations_are_left_alone() -> None:
    def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        return x * cos + torch.cat((-x[..., :5], x[..., 5:]), dim=-1) * sin

    def uneven(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        return x * cos + torch.cat((-x[..., 4:], x[..., :4]), dim=-1) * sin

    for function in (turned, uneven):
        assert "npu.rotary" not in optimized(function, Q, ANGLES.cos(), ANGLES.sin())
    tables = (ANGLES[..., :1].cos(), ANGLES[..., :1].sin())
    assert "npu.rotary" not in optimized(rotary, Q, *tables)


def rms_norm(x: torch.Tensor, weight: torch.Tensor | None, eps: float = 1e-5) -> torch.Tensor:
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return wide.to(x.dtype) if weight is None else weight * wide.to(x.dtype)


WEIGHT, BIAS = images(40, seed=3) + 1, images(40, seed=4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rms_norm_written_out(dtype: torch.dtype) -> None:
    module = Function(lambda self, x: rms_norm(x, self.weight), weight=WEIGHT.to(dtype))
    x = (X * 3).to(dtype)
    check(module, x, compute_dtype=None if dtype == torch.bfloat16 else "float32")
    graph = npu_compiler.load_ir_from_dict(ir_of(module, (x,)))
    assert [node.op_type for node in optimize_graph(graph, check=True).nodes] == [
        "aten.rms_norm.default"
    ]


def gemma_norm(x: torch.Tensor, weight: torch.Tensor, shift: float = 1.0) -> torch.Tensor:
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
    return (wide * (shift + weight.float())).type_as(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shift", [1.0, -0.5])
def test_rms_norm_times_one_and_a_weight(dtype: torch.dtype, shift: float) -> None:
    """The sum is made when weights are loaded; what was widened for the norm is read as it is."""
    module = Function(lambda self, x: gemma_norm(x, self.weight, shift), weight=BIAS.to(dtype))
    x = (X * 3).to(dtype)
    compute = None if dtype == torch.bfloat16 else "float32"
    assert check(module, x, compute_dtype=compute).kernels == ["row_norm"]
    graph = npu_compiler.load_ir_from_dict(ir_of(module, (x,)))
    assert [node.op_type for node in optimize_graph(graph, check=True).nodes] == [
        "npu.shifted_rms_norm"
    ]


def test_a_sum_that_is_rounded_or_no_weight_s_is_computed() -> None:
    def rounded(self: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.rms_norm(x, (40,)) * (1 + self.weight)

    module = Function(rounded, weight=BIAS.bfloat16())
    assert "elementwise" in check(module, X.bfloat16(), compute_dtype=None).kernels
    given = Function(lambda x, w: torch.rms_norm(x, (40,)) * (1 + w))
    assert "elementwise" in check(given, X, BIAS).kernels


@pytest.mark.parametrize("bias", [None, BIAS])
def test_norms_whose_result_is_rounded_back(bias: torch.Tensor | None) -> None:
    """As OLMo's: in float32, then as before."""

    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.layer_norm(x.float(), (40,), bias, bias, 1e-5).to(x.dtype)

    assert check(Function(function), X.bfloat16(), compute_dtype="bfloat16").kernels == ["row_norm"]
    widened = Function(lambda x: torch.layer_norm(x.float(), (40,)))
    assert len(check(widened, X.bfloat16(), compute_dtype="bfloat16").kernels) >= 1


def test_rms_norm_reads_its_epsilon_from_the_graph() -> None:
    small = X * 1e-3
    assert optimized(lambda x: rms_norm(x, None, 0.3), small) == ["aten.rms_norm.default"]


def test_a_mean_over_other_dimensions_is_no_norm() -> None:
    def other(x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-5)

    def several(x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean((1, 2), keepdim=True) + 1e-5)

    for function in (other, several):
        assert "aten.rms_norm.default" not in optimized(function, X)


def layer_norm(x: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5)


def layer_norm_by_var(x: torch.Tensor) -> torch.Tensor:
    shifted = x.var(-1, unbiased=False, keepdim=True) + 1e-5
    return (x - x.mean(-1, keepdim=True)) * torch.rsqrt(shifted)


@pytest.mark.parametrize("norm", [layer_norm, layer_norm_by_var])
def test_layer_norm_written_out(norm: Unary) -> None:
    assert optimized(norm, X) == ["aten.layer_norm.default"]
    both = optimized(lambda x, w, b: norm(x) * w + b, X, WEIGHT, BIAS)
    assert both == ["aten.layer_norm.default"]
    swapped = optimized(lambda x, w, b: b + w * norm(x), X, WEIGHT, BIAS)
    assert swapped == ["aten.layer_norm.default"]


def test_an_unbiased_variance_is_no_layer_norm() -> None:
    def unbiased(x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / torch.sqrt(x.var(-1, keepdim=True) + 1e-5)

    assert "aten.layer_norm.default" not in optimized(unbiased, X)


def test_a_weight_of_another_shape_is_not_taken_into_the_norm() -> None:
    ops = optimized(lambda x, w: layer_norm(x) * w, X, images(5, 40))
    assert ops == ["aten.layer_norm.default", "aten.mul.Tensor"]
