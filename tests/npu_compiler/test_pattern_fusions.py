"""Pattern fusions: what becomes one operator, with right numbers, and what must not."""

from __future__ import annotations

import math
from collections.abc import Callable

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
