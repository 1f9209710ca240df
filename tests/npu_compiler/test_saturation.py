"""Masks made of a float32 model's smallest number, in dtypes that do not have it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.npu_compiler.harness import Function, check, images, run

LOWEST = torch.finfo(torch.float32).min
MASK = torch.tensor([[True, False, True, False], [True] * 4, [False] * 4])


def _filled(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return x.masked_fill(mask, LOWEST).softmax(-1)


def _chosen(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return torch.where(mask, LOWEST, x).softmax(-1)


def _constant(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return torch.where(mask, torch.full_like(x, LOWEST), x).softmax(-1)


def _bounded(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    lowest = torch.tensor([LOWEST, LOWEST, 0.0, 0.0])
    return torch.maximum(x.masked_fill(mask, -torch.inf), lowest).softmax(-1)


def _compared(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (torch.where(mask, LOWEST, x) == LOWEST) & (x.masked_fill(mask, LOWEST) <= LOWEST)


@pytest.mark.parametrize("function", [_filled, _chosen, _constant, _bounded, _compared])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("optimize", [True, False])
def test_a_row_masked_entirely(
    function: Callable[..., torch.Tensor], dtype: str, optimize: bool
) -> None:
    check(Function(function), images(3, 4), MASK, compute_dtype=dtype, optimize=optimize)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_mask_that_is_added_leaves_no_nan(dtype: str) -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return (x + torch.full((3, 4), LOWEST)).softmax(-1)

    result = run(Function(forward), images(3, 4), compute_dtype=dtype)
    for (found,) in result.by_device.values():
        assert abs(found.astype("float32").sum(-1) - 1).max() < 1e-2


def test_infinity_stays_infinite_and_what_overflows_is_infinite() -> None:
    def forward(x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x.masked_fill(mask, -torch.inf), torch.full((3,), torch.inf), x * 1e6

    result = run(Function(forward), images(3, 4), MASK, compute_dtype="float16")
    for filled, full, overflown in result.by_device.values():
        assert (filled[MASK.numpy()] == -float("inf")).all()
        assert (full == float("inf")).all()
        assert abs(overflown[abs(result.expected[2]) > 65520]).min() == float("inf")
