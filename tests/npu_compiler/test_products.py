"""Matrix products inside models: how they become dispatches, and what einsum refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from npu_compiler.ops.arguments import Refusal
from npu_compiler.ops.einsum import parse_equation
from tests.npu_compiler.harness import Function, check, images


def test_a_single_column_is_computed_as_a_row() -> None:
    for shape in ((9, 70), (3, 3, 70)):
        result = check(nn.Linear(70, 1), images(*shape))
        (call,) = result.program.kernel_calls
        x, w, bias, _, y = call.operands
        assert (x.shape[1], y.shape[1]) == (1, 1) and w.shape[1] == y.shape[2] > 1
        assert bias.shape == (y.shape[2],)


class TransposedLinear(nn.Module):
    """A linear layer as GPT-2 has it."""

    def __init__(self, k: int, n: int, *, alpha: float = 1.0) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(k, n) * 0.1), nn.Parameter(torch.randn(n))
        self.alpha = alpha

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight, alpha=self.alpha)
        return rows.view(*x.shape[:-1], -1)


@pytest.mark.parametrize("shape", [(2, 3, 24), (1, 1, 24)])
def test_what_follows_a_transposed_linear_layer_is_part_of_it(shape: tuple[int, ...]) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = TransposedLinear(24, 40), TransposedLinear(40, 24)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.down(nn.functional.gelu(self.up(x)))

    assert check(Block(), images(*shape)).kernels == ["gemm", "gemm"]


def test_transposed_linear_layers_that_stay_products() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = TransposedLinear(24, 40)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            rows = torch.addmm(self.layer.bias, x.view(-1, 24), self.layer.weight)
            return rows, rows.view(2, 3, 40).relu()

    # Somebody else reads the rows.
    assert check(Both(), images(2, 3, 24)).kernels == ["gemm", "elementwise"]
    check(TransposedLinear(24, 40, alpha=0.5), images(2, 3, 24))


def test_einsum_of_views_copies_nothing() -> None:
    def scores(x: torch.Tensor) -> torch.Tensor:
        q, k = (p.view(7, 3, 8) for p in x.chunk(2, -1))
        return torch.einsum("qhd,khd->hqk", q, k) * 2

    result = check(Function(scores), images(7, 48))
    assert result.kernels == ["gemm", "elementwise"]
    assert result.copies == 0


def test_einsum_writes_an_output_where_it_lies() -> None:
    result = check(
        Function(lambda a, b: torch.einsum("ij,jk->ki", a, b)), images(3, 4), images(4, 5)
    )
    assert result.kernels == ["gemm"]


@pytest.mark.parametrize(
    ("equation", "ranks", "reason"),
    [
        ("ij,jk->ik", (2,), "2 operands"),
        ("ij->ik", (2,), "labels"),
        ("ij->ii", (2,), "labels"),
        ("ijk->i", (2,), "does not fit an operand of rank 2"),
        ("i->i", (2,), "does not fit an operand of rank 2"),
        ("i1->i", (2,), "no list of letters"),
        ("...i...->i", (2,), "no list of letters"),
    ],
)
def test_equations_that_mean_nothing(equation: str, ranks: tuple[int, ...], reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        parse_equation(equation, ranks)
