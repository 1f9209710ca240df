"""Index arithmetic: zeros go, and what is computed alike is computed once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from npu_compiler.ir_reader import load_ir_from_dict
from npu_compiler.passes import optimize_graph
from tests.npu_compiler.harness import Function, check, ir_of

Tensor = torch.Tensor
X = torch.tensor([3, 5, 9])


def nodes(function: Callable[..., object], *inputs: Tensor) -> list[str]:
    """Operators that are left, after checking what they compute."""
    module = Function(function)
    check(module, *inputs, devices=["cpu"])
    graph = optimize_graph(load_ir_from_dict(ir_of(module, inputs)))
    return [node.op_type.split(".")[1] for node in graph.nodes]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x + 0) * 2,
        lambda x: (x - 0) * 2,
        lambda x: (torch.zeros(3, dtype=torch.int64) + x) * 2,
        lambda x: (torch.arange(1) + x) * 2,
    ],
)
def test_zeros_go(function: Callable[[Tensor], Tensor]) -> None:
    assert nodes(function, X) == ["mul"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (0 - x) * 2,
        lambda x: (x + 1) * 2,
        lambda x: (x.to(torch.int32) + torch.zeros(3, dtype=torch.int64)) * 2,
        lambda x: (x[:1] + torch.zeros(3, dtype=torch.int64)) * 2,
    ],
)
def test_other_sums_stay(function: Callable[[Tensor], Tensor]) -> None:
    assert len(nodes(function, X)) > 1


def test_negative_zero_is_kept() -> None:
    """-0.0 + 0 is 0.0: only sums of integers go."""
    assert "add" in nodes(lambda x: 1 / (x + 0), torch.tensor([-0.0, 1.0]))


def test_a_zero_dimensional_term_is_shown_as_the_sum() -> None:
    function = lambda x, n: x[torch.arange(1) + n]  # noqa: E731
    assert nodes(function, torch.randn(4, 2), torch.tensor(2)) == ["reshape", "index"]


def test_what_is_computed_alike_is_computed_once() -> None:
    def function(x: Tensor, n: Tensor) -> Tensor:
        a, b, c = (x[torch.arange(2) + n + k] for k in (0, 0, 1))
        return a + b * c

    kinds = nodes(function, torch.randn(6, 2), torch.tensor(2))
    assert kinds.count("add") == 2 + 1
