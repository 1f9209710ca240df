"""Run-time checks: `torch._check` on values of tensors stays a check in the IR, at its place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.torch_ir.support import check_model, ops_of
from torch_ir import ConversionError, ExecutionError, IRExecutor, extract_ir

ASSERT = "aten._assert_async.msg"


class AllPositive(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        torch._check_tensor_all(x > 0)
        return x * 2


class Bounded(nn.Module):
    def forward(self, x: Tensor, n: Tensor) -> Tensor:
        torch._check((x < 9).any().item())
        count = n.item()
        torch._check(count >= 2)
        torch._check(count <= 5)
        return x + n


def test_a_check_of_all_elements_is_kept() -> None:
    ir = check_model(AllPositive().eval(), (torch.ones(3),))
    assert ASSERT in ops_of(ir)
    with pytest.raises(ExecutionError, match="assert"):
        IRExecutor(ir).execute((torch.tensor([1.0, -1.0, 1.0]),))


@pytest.mark.parametrize("count", [1, 6])
def test_bounds_of_a_number_are_kept(count: int) -> None:
    ir = check_model(Bounded().eval(), (torch.ones(3), torch.tensor(3)))
    with pytest.raises(ExecutionError, match=r"_assert_async.*assertion failed"):
        IRExecutor(ir).execute((torch.ones(3), torch.tensor(count)))


def test_checks_inside_a_no_grad_region() -> None:
    class Wrapped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                torch._check_tensor_all(x > 0)
                y = x * 3
            return y + 1

    assert ASSERT in ops_of(check_model(Wrapped().eval(), (torch.ones(3),)))


def test_a_number_that_is_used_otherwise_is_refused() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor, n: Tensor) -> Tensor:
            return x * n.item()

    class Returned(nn.Module):
        def forward(self, n: Tensor) -> tuple[Tensor, int | float | bool]:
            return n + 1, n.item()

    with pytest.raises(ConversionError, match=r"'item'.*run time"):
        extract_ir(Scaled().eval(), (torch.ones(3), torch.tensor(2)))
    with pytest.raises(ConversionError, match=r"'item'.*run time"):
        extract_ir(Returned().eval(), (torch.tensor(2),))
