"""Groups of elementwise nodes: several outputs, siblings, single elements, paths around them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

import npu_compiler
from tests.npu_compiler.harness import Function, check, images
from tests.npu_compiler.ir_builder import IRBuilder

X = (4, 50)


def kernels(function: Callable[..., object], *inputs: torch.Tensor) -> list[str]:
    """Kernels of the compiled function, whose results have been checked."""
    return check(Function(function), *inputs, compute_dtype="float32").kernels


def test_a_value_with_other_readers_is_one_more_output() -> None:
    def forward(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        total = x + y
        return total, torch.relu(total) * 2, total.sum(-1)

    assert kernels(forward, images(*X), images(*X, seed=1)) == ["elementwise", "reduce"]


def test_siblings_share_their_operand() -> None:
    def forward(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.sin(x), torch.cos(x), (x > 0).to(torch.int64)

    assert kernels(forward, images(*X)) == ["elementwise"]


def test_more_outputs_than_a_kernel_has() -> None:
    def forward(x: torch.Tensor) -> list[torch.Tensor]:
        return [x * k for k in range(2, 8)]

    assert kernels(forward, images(*X)) == ["elementwise", "elementwise"]


def test_a_path_around_keeps_nodes_apart() -> None:
    """The product needs the sum of what the first node computes."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        grown = torch.exp(x)
        return grown * grown.sum(-1, keepdim=True) + grown

    assert kernels(forward, images(*X)) == ["elementwise", "reduce", "elementwise"]


def test_a_path_around_through_another_group() -> None:
    """a and d may be one group, b and c may not: c needs a and b needs the row sums of c."""

    def forward(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a = x * 2
        rows = a.sum(-1, keepdim=True)
        b = y * rows
        c = torch.relu(a) + b.sum()
        return a, b, c, a + 1, b - c

    check(Function(forward), images(*X), images(*X, seed=1), compute_dtype="float32")


def test_one_element_is_computed_where_it_is_needed() -> None:
    def forward(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return x * torch.exp(s * 2 + 1)

    assert kernels(forward, images(*X), torch.tensor(0.3)) == ["elementwise"]


def test_results_of_several_dtypes_and_a_padded_image() -> None:
    def forward(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = torch.nn.functional.max_pool2d(x, 2)
        z = torch.relu(y)
        return z * 3, torch.cos(z), z > 0.5, z.to(torch.int32)

    check(Function(forward), images(2, 70, 6, 4), compute_dtype="float32")
    check(Function(forward), images(2, 70, 6, 4), compute_dtype="float16")


def test_integers_wrap_between_nodes_of_a_group() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return (x + 100).to(torch.int32) * 2 + (x * 3 // 2)

    x = torch.arange(-128, 128, dtype=torch.int64).to(torch.int8)
    assert kernels(forward, x) == ["elementwise"]


@pytest.mark.parametrize("seed", range(20), ids=lambda s: f"seed{s}")
def test_random_graphs(seed: int) -> None:
    """Graphs in which every node may read any earlier one, with reductions between them."""
    generator = torch.Generator().manual_seed(seed)

    def pick(n: int) -> int:
        return int(torch.randint(n, (), generator=generator))

    plan = [(pick(7), pick(k + 2), pick(k + 2)) for k in range(24)]
    wanted = [pick(24) + 2 for _ in range(5)] + [25]

    def forward(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        values = [x, y]
        for op, i, j in plan:
            a, b = values[i], values[j]
            values.append(
                [
                    lambda a, b: a + b,
                    lambda a, b: torch.tanh(a) * b.clamp(-2, 2),
                    lambda a, b: torch.maximum(a, b),
                    lambda a, b: torch.where(a > b, a, -b),
                    lambda a, b: a.clamp(-3, 3) - b.mean(-1, keepdim=True),
                    lambda a, b: torch.sigmoid(a) + b.sum().clamp(-1, 1),
                    lambda a, b: (a * 4).round() * 0.25 + b,
                ][op](a, b)
            )
        return [values[k] for k in wanted]

    check(Function(forward), images(3, 9), images(3, 9, seed=1), compute_dtype="float32")


def test_compile_time_is_linear() -> None:
    """A chain and a fan of 2,000 nodes each take well under what quadratic search would."""
    b = IRBuilder()
    x = y = b.input("x", 4, 64)
    for k in range(2000):
        y = b.node(f"n{k}", "aten.add.Tensor", [y, x if k % 3 else y], [4, 64])
    began = time.process_time()
    program = npu_compiler.compile(b.output(y), compute_dtype="float32")
    assert time.process_time() - began < 5
    assert len(program.kernel_calls) <= 2000 / 20
