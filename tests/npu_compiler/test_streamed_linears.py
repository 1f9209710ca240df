"""Linear layers with their weights in place: norms, gates and additions in one dispatch, and where
they must stay apart.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.npu_compiler.harness import Function, Result, check, images


class Block(nn.Module):
    """A gated feed-forward block with a norm before it, as decoders have it."""

    def __init__(self, act: object = F.silu, eps: float = 1e-6, bias: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.act, self.eps = act, eps
        self.norm = nn.Parameter(torch.rand(24) + 0.5)
        self.gate, self.up = (nn.Linear(24, 40, bias=bias) for _ in range(2))
        self.down = nn.Linear(40, 24, bias=bias)

    def normed(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.normed(x)
        return x + self.down(self.act(self.gate(y)) * self.up(y))  # type: ignore[operator]


def linears(result: Result) -> int:
    """Dispatches of the program, where all of them are linear layers."""
    assert set(result.kernels) == {"linear"}
    return len(result.kernels)


@pytest.mark.parametrize("shape", [(24,), (1, 24), (2, 3, 24), (1, 1, 24), (2, 40, 24)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_gated_block_is_two_dispatches(shape: tuple[int, ...], bias: bool) -> None:
    assert linears(check(Block(bias=bias), images(*shape), weights_in_place=True)) == 2


@pytest.mark.parametrize("act", [F.silu, F.gelu, lambda x: F.gelu(x, approximate="tanh")])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gates_in_half_precision(act: object, dtype: str) -> None:
    result = check(Block(act), images(3, 24), compute_dtype=dtype, weights_in_place=True)
    assert linears(result) == 2


def test_either_order_and_the_norm_s_own_eps() -> None:
    class Swapped(Block):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.normed(x)
            return self.down(self.up(y) * torch.sigmoid(self.gate(y)))

    result = check(Swapped(eps=0.5), images(2, 24, scale=0.1), weights_in_place=True)
    assert linears(result) == 2


def test_layers_of_one_normed_input_are_one_dispatch() -> None:
    class Projections(Block):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            y = self.normed(x)
            return torch.sin(self.gate(y)), torch.cos(self.up(y))

    result = check(Projections(bias=True), images(2, 24))
    assert result.kernels.count("linear") == 1
    assert "row_norm" not in result.kernels


def test_few_rows_decide_by_themselves() -> None:
    assert linears(check(Block(), images(1, 24))) == 2
    many = check(Block(), images(64, 24))
    assert "linear" not in many.kernels
    assert "linear" not in check(Block(), images(1, 24), weights_in_place=False).kernels


def test_a_norm_that_others_read_stays() -> None:
    class Shared(Block):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.normed(x)
            return self.gate(y).sum() + y.sum()

    assert "row_norm" in check(Shared(), images(2, 24)).kernels

    class Returned(Block):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = self.normed(x)
            return y, self.gate(y)

    assert "row_norm" in check(Returned(), images(2, 24)).kernels

    class Residual(Block):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.normed(x)
            return y + F.linear(y, self.gate.weight[:24])

    check(Residual(), images(2, 24))


def test_a_gate_that_others_read_stays() -> None:
    class Read(Block):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            gate, up = F.silu(self.gate(x)), self.up(x)
            return self.down(gate * up) + gate.sum()

    check(Read(), images(2, 24))

    class TwoInputs(Block):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.down(F.silu(self.gate(x)) * self.up(x + 1))

    check(TwoInputs(), images(2, 24))

    class Tied(Block):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.down(F.silu(self.gate(x)) * F.linear(x, self.gate.weight))

    check(Tied(), images(2, 24))

    class Broadcast(Block):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.down(F.silu(self.gate(x)) * F.linear(x, self.up.weight[:1]))

    check(Broadcast(), images(2, 24))


def test_a_norm_of_a_strided_input() -> None:
    class Strided(Block):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.gate(self.normed(x.transpose(0, 1)))

    assert linears(check(Strided(), images(24, 3))) == 1


def test_one_weight_as_embedding_and_head_is_stored_once() -> None:
    def tied(m: Function, ids: torch.Tensor) -> torch.Tensor:
        return F.linear(F.embedding(ids, m.table), m.table)

    result = check(Function(tied, table=images(50, 8)), torch.tensor([[3, 49]]))
    assert "linear" in result.kernels
    assert len(result.program.weight_specs) == 1


@pytest.mark.parametrize(
    "tail",
    [lambda y, x: torch.relu(y + x), lambda y, x: F.gelu(y), lambda y, x: y.clamp(-0.5, 0.5)],
)
def test_epilogues(tail: object) -> None:
    class Added(Block):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return tail(self.down(y), x)  # type: ignore[operator]

    assert linears(check(Added(bias=True), images(3, 24), images(3, 40))) == 1
