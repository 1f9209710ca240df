"""Mixtures of experts: no copies of weights, the gate and the repetition of tokens in the product's
dispatch, and where it all must stay apart.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import npu_compiler
from npu_runtime import quantization_errors
from tests.npu_compiler.experts import Activation, Experts, routed
from tests.npu_compiler.harness import Function, Result, check, images, ir_of, to_numpy


def experts(result: Result) -> int:
    """Dispatches of experts, in a program that gathers and multiplies nothing else."""
    assert not {"gather", "gemm", "linear"} & set(result.kernels)
    return result.kernels.count("expert_linear")


@pytest.mark.parametrize("tokens", [1, 6])
@pytest.mark.parametrize("transposed", [False, True])
def test_weights_are_read_where_they_are(tokens: int, transposed: bool) -> None:
    module = Experts(5, 24, 20, transposed=transposed)
    result = check(module, *routed(tokens, 5, 24))
    assert experts(result) == 2
    # Two products, the weighted sum.
    assert result.copies == 0 and len(result.kernels) <= 4


@pytest.mark.parametrize("act", [F.gelu, lambda x: F.gelu(x, approximate="tanh"), torch.sigmoid])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gates_in_half_precision(act: Activation, dtype: str) -> None:
    result = check(Experts(4, 24, 20, act), *routed(3, 4, 24), compute_dtype=dtype)
    assert experts(result) == 2


def test_without_a_gate_and_with_one_expert() -> None:
    assert experts(check(Experts(1, 24, 20, None), *routed(3, 1, 24, 1))) == 2


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_int8_weights(transposed: bool, dtype: str) -> None:
    """The module's weights are exact in int8."""
    module = Experts(4, 24, 20, transposed=transposed)
    options: dict[str, Any] = {"compute_dtype": dtype, "weight_dtype": "int8"}
    result = check(module, *routed(3, 4, 24), **options)
    assert experts(result) == 2
    assert {c.operands[2].dtype for c in result.program.kernel_calls[:2] if c.operands[2]} == {
        "int8"
    }


def test_the_error_of_int8_is_reported() -> None:
    module = Experts(4, 24, 20)
    state = {name: to_numpy(tensor) for name, tensor in module.state_dict().items()}
    program = npu_compiler.compile(ir_of(module.eval(), routed(3, 4, 24)), weight_dtype="int8")
    found = quantization_errors(state, program)
    assert [row.rows for row in found] == [4 * 40, 4 * 24]
    assert all(row.relative < 1e-3 for row in found)
    sampled = quantization_errors(state, program, max_rows=16)
    assert [row.rows for row in sampled] == [40, 24]


def test_bytes_are_those_of_the_experts_that_are_read() -> None:
    program = npu_compiler.compile(ir_of(Experts(64, 24, 20).eval(), routed(1, 64, 24)))
    calls = [call for call in program.kernel_calls if call.kernel_name == "expert_linear"]
    expert = 2 * 20 * 24 * 2
    # Two experts, a row of x for each, indices, results.
    assert calls[0].bytes == 2 * expert + 2 * 24 * 2 + 2 * 8 + 2 * 20 * 2
    crowd = npu_compiler.compile(ir_of(Experts(3, 24, 20).eval(), routed(9, 3, 24)))
    call = next(call for call in crowd.kernel_calls if call.kernel_name == "expert_linear")
    assert 3 * expert < call.bytes < 5 * expert


@pytest.mark.parametrize(
    ("kept", "function"),
    [
        ("weights that are returned", lambda m, x, e: _returned(m.w[e], x)),
        ("weights that another reads", lambda m, x, e: _read_twice(m.w[e], x)),
        ("a column for each", lambda m, x, e: torch.bmm(m.w[e], torch.stack([x, x * 2], -1))),
    ],
    ids=lambda v: v.replace(" ", "-") if isinstance(v, str) else "",
)
def test_weights_that_others_read_are_gathered(kept: str, function: Any) -> None:
    inputs = images(3, 7), torch.tensor([2, 0, 1])
    result = check(Function(function, w=images(4, 5, 7)), *inputs)
    assert "expert_linear" not in result.kernels and "gather" in result.kernels, kept


def _rows(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.bmm(w, x.unsqueeze(-1)).squeeze(-1)


def _returned(w: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return _rows(w, x), w


def _read_twice(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return _rows(w, x) + w.sum(-1)


def test_a_gate_that_is_read_elsewhere_is_a_dispatch_of_its_own() -> None:
    class Shown(Experts):
        def forward(self, x: torch.Tensor, expert: torch.Tensor) -> tuple[torch.Tensor, ...]:
            gate, up = self.product(x, self.up, expert).chunk(2, dim=-1)
            return F.silu(gate) * up, gate

    result = check(Shown(3, 16, 8), images(2, 16), torch.tensor([1, 2]))
    assert result.kernels[0] == "expert_linear" and "elementwise" in result.kernels


def test_weights_that_are_computed_are_gathered() -> None:
    def function(x: torch.Tensor, w: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        return _rows((w * 2)[e], x)

    result = check(Function(function), images(3, 7), images(4, 5, 7), torch.tensor([3, 0, 1]))
    assert "expert_linear" not in result.kernels


def test_an_expert_in_a_concatenation() -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = Experts(3, 16, 8, None)

        def forward(self, x: torch.Tensor, expert: torch.Tensor) -> torch.Tensor:
            y = self.experts.product(x, self.experts.up, expert)
            return torch.cat([x, y], dim=-1)

    check(Beside(), images(2, 16), torch.tensor([1, 2]))
