"""What no input decides: constants in the program, how large they are, and what reads them."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from npu_compiler.compiled_program import CompiledProgram
from tests.npu_compiler.harness import Function, check, images


def _constant_bytes(program: CompiledProgram) -> int:
    return len(program.constants)


def test_a_causal_mask_is_computed_from_row_and_column_numbers() -> None:
    n = 512

    def forward(x: torch.Tensor) -> torch.Tensor:
        return x + torch.full((n, n), float("-inf")).triu(1)

    result = check(Function(forward), images(n, n))
    assert _constant_bytes(result.program) <= 2 * 4 * n + 64
    assert result.copies == 0


def test_a_large_constant_of_one_value_is_one_value() -> None:
    table = torch.full((256, 64), 3.0)
    result = check(Function(lambda x: x * torch.tensor(table.tolist()) + x), images(256, 64))
    assert _constant_bytes(result.program) == 64
    assert result.kernels == ["elementwise"]


def test_a_constant_of_one_value_as_output_and_as_weight() -> None:
    def forward(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ones = torch.ones(20, 64)
        return ones, F.linear(x, ones), torch.zeros(2, 5, 3, 3), x @ torch.full((64, 30), 0.5)

    check(Function(forward), images(4, 64))


def test_constructors_of_shapes_leave_nothing_behind() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x @ x) + x.new_ones(8, 8) * x

    result = check(Function(forward), images(8, 8))
    assert result.kernels == ["elementwise"]


def test_writes_to_a_constant_go_to_a_copy() -> None:
    def forward(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        zeros = torch.zeros(4, 8)
        mask = zeros.clone()
        mask[:, 2:5] = 1
        return mask * x, zeros + x

    check(Function(forward), images(4, 8))
