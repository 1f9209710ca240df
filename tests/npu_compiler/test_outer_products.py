"""Matrix products over one term are elementwise products, transposed or not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from npu_compiler.ir_reader import load_ir_from_dict
from npu_compiler.passes import optimize_graph
from tests.npu_compiler.harness import Function, check, ir_of

Tensor = torch.Tensor
COLUMN, ROW = torch.randn(2, 5, 1), torch.randn(2, 1, 7)


def nodes(function: Callable[..., object], *inputs: Tensor) -> list[str]:
    """Operators that are left, after checking what they compute."""
    module = Function(function)
    check(module, *inputs)
    graph = optimize_graph(load_ir_from_dict(ir_of(module, inputs)))
    return [node.op_type.split(".")[1] for node in graph.nodes]


@pytest.mark.parametrize(
    "function, inputs",
    [
        (torch.bmm, (COLUMN, ROW)),
        (torch.mm, (COLUMN[0], ROW[0])),
        (torch.matmul, (COLUMN[0], ROW)),
        (torch.matmul, (COLUMN[:, None], ROW[None])),
        (torch.matmul, (COLUMN.bfloat16(), ROW.bfloat16())),
    ],
)
def test_outer_products(
    function: Callable[[Tensor, Tensor], Tensor], inputs: tuple[Tensor, Tensor]
) -> None:
    assert nodes(function, *inputs) == ["mul"]


def test_transposed() -> None:
    transposed = lambda a, b: (a @ b).transpose(1, 2).cos()  # noqa: E731
    assert nodes(transposed, COLUMN, ROW) == ["transpose", "transpose", "mul", "cos"]
    batches = lambda a, b: (a @ b).transpose(0, 1).cos()  # noqa: E731
    assert nodes(batches, COLUMN, ROW) == ["mul", "transpose", "cos"]


def test_product_that_others_read_too() -> None:
    def function(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        product = a @ b
        return product.transpose(-1, -2).cos(), product

    assert nodes(function, COLUMN, ROW) == ["mul", "transpose", "cos"]


@pytest.mark.parametrize(
    "a, b",
    [
        (COLUMN[0, :, 0], COLUMN[0, :, 0]),
        (COLUMN[0, :1, 0], ROW[0]),
        (ROW, COLUMN.expand(2, 5, 7).transpose(1, 2)),
    ],
)
def test_other_products_stay(a: Tensor, b: Tensor) -> None:
    assert nodes(torch.matmul, a, b) == ["matmul"]
