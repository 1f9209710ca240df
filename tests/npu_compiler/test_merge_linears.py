"""Linear layers of one input: merged into one product where that saves a dispatch, else not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.npu_compiler.harness import Result, check, images


class Layers(nn.Module):
    """Three layers of one input, joined by ``join``."""

    def __init__(self, join: object, bias: tuple[bool, ...] = (True, True, True)) -> None:
        super().__init__()
        torch.manual_seed(5)
        sizes = (20, 12, 36)
        self.layers = nn.ModuleList(
            nn.Linear(24, size, bias=b) for size, b in zip(sizes, bias, strict=True)
        )
        self.join = join

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.join(x, *self.layers)  # type: ignore[operator]


def products(result: Result) -> int:
    return result.kernels.count("gemm") + result.kernels.count("linear")


def separate(x: torch.Tensor, *layers: nn.Module) -> torch.Tensor:
    a, b, c = (layer(x) for layer in layers)
    return torch.cat([torch.sin(a), torch.cos(b), c.exp()], -1)


@pytest.mark.parametrize("shape", [(24,), (7, 24), (2, 3, 24), (2, 1, 3, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_layers_of_one_input_are_one_product(shape: tuple[int, ...], bias: bool) -> None:
    assert products(check(Layers(separate, (bias,) * 3), images(*shape))) == 1


def test_layers_with_and_without_a_bias_are_apart() -> None:
    assert products(check(Layers(separate, (True, False, True)), images(7, 24))) == 2


def test_a_gate_and_what_it_gates() -> None:
    def gated(x: torch.Tensor, a: nn.Module, b: nn.Module, c: nn.Module) -> torch.Tensor:
        return F.silu(c(x)) * (c(x) + 1) + a(x).sum() + b(x).sum()

    result = check(Layers(gated), images(7, 24), compute_dtype="float16")
    assert products(result) <= 3


def test_heads_of_an_attention() -> None:
    def attend(x: torch.Tensor, *layers: nn.Module) -> torch.Tensor:
        parts = [layer(x)[..., :12].unflatten(-1, (3, 4)).transpose(1, 2) for layer in layers]
        return F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2) * 2

    result = check(Layers(attend), images(2, 5, 24))
    assert products(result) == 1
    assert result.copies == 0


def test_a_result_that_is_returned_or_a_weight_that_is_shared_stays_alone() -> None:
    def returned(x: torch.Tensor, a: nn.Module, b: nn.Module, c: nn.Module) -> object:
        return a(x), torch.sin(b(x)), torch.cos(c(x))

    assert products(check(Layers(returned), images(7, 24))) == 2

    def shared(x: torch.Tensor, a: nn.Linear, b: nn.Module, c: nn.Module) -> torch.Tensor:
        return torch.sin(a(x)).sum() + torch.cos(b(x)).sum() + (c(x).exp()).sum() + a.weight.sum()

    assert products(check(Layers(shared), images(7, 24))) == 2


def test_layers_that_are_computed_in_a_concatenation_stay_apart() -> None:
    def joined(x: torch.Tensor, *layers: nn.Module) -> torch.Tensor:
        return torch.cat([layer(x) for layer in layers], -1) * 2

    result = check(Layers(joined), images(7, 24))
    assert products(result) == 3
    assert result.copies == 0


def test_layers_that_take_in_what_follows_keep_their_epilogues() -> None:
    def clamped(x: torch.Tensor, *layers: nn.Module) -> torch.Tensor:
        return torch.cat([torch.relu(layer(x)) for layer in layers], -1)

    result = check(Layers(clamped), images(7, 24))
    assert products(result) == 3
    assert "elementwise" not in result.kernels or result.copies > 0
