"""Operators and models on the Metal device, compared with PyTorch: each kernel in each dtype, the
cases of the op records, programs whose dispatches depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import npu_compiler
from npu_compiler.kernels import KERNELS
from npu_runtime.device import Device
from npu_sim.models.resnet import resnet18
from tests.metal_standin.standin import Standin
from tests.npu_compiler import harness
from tests.npu_compiler.test_ops import CASES as EVERY_CASE

Case = tuple[Callable[..., torch.Tensor], tuple[tuple[int, ...], ...]]

CASES: dict[str, Case] = {
    "elementwise": (lambda x, y: torch.tanh(x * y) + x, ((3, 5, 7), (5, 1))),
    "product": (lambda x, y: torch.relu(x @ y), ((2, 9, 33), (2, 33, 17))),
    "sum": (lambda x: x.sum(1) * 2, ((4, 31, 6),)),
    "mean, variance": (lambda x: x.var(-1) + x.mean(-1), ((6, 40),)),
    "layer norm": (lambda x: F.layer_norm(x, (24,)), ((5, 24),)),
    "softmax": (lambda x: torch.softmax(x, 1), ((4, 37, 3),)),
    "masked softmax": (lambda x, y: torch.softmax(x * 0.5 + y, -1), ((2, 3, 5, 7), (5, 7))),
    "attention": (F.scaled_dot_product_attention, ((1, 2, 9, 16),) * 3),
    "pooling": (lambda x: F.max_pool2d(x, 3, 2, 1), ((1, 20, 9, 9),)),
    "interpolation": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), ((1, 3, 5, 4),)),
    "running sum": (lambda x: x.cumsum(1), ((3, 19),)),
    "order": (lambda x: x.sort(-1).values, ((4, 21),)),
    "views": (
        lambda x: torch.cat([x[:, 1:3].transpose(0, 1).flip(0).reshape(-1), x[0]]),
        ((4, 6),),
    ),
    "picked rows": (lambda x: x[torch.tensor([2, 0, 2])] + 1, ((4, 6),)),
}


def run(
    metal: Device, module: nn.Module, *inputs: torch.Tensor, dtype: str, **options: Any
) -> harness.Result:
    """Compare what the device computes with PyTorch."""
    harness.opened["metal"] = metal
    try:
        return harness.check(module, *inputs, compute_dtype=dtype, devices=["metal"], **options)
    finally:
        del harness.opened["metal"]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("case", CASES)
def test_op(metal: Device, case: str, dtype: str) -> None:
    function, shapes = CASES[case]
    inputs = [harness.images(*shape, seed=i) for i, shape in enumerate(shapes)]
    run(metal, harness.Function(function), *inputs, dtype=dtype)


# Every kernel is above in every dtype; these are about what programs look like.
@pytest.mark.parametrize("number", range(len(EVERY_CASE)))
def test_op_records(metal: Device, number: int) -> None:
    case = EVERY_CASE[number]
    run(metal, case.module(), *case.inputs, dtype="float32")


def test_resnet(metal: Device) -> None:
    run(metal, harness.trained_like(resnet18()), harness.images(1, 3, 32, 32), dtype="float16")


class Branches(nn.Module):
    """A small CNN whose branches are independent until they meet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, 2, 1)
        self.norm = nn.BatchNorm2d(12)
        self.left = nn.Conv2d(12, 12, 3, 1, 1, groups=12)
        self.right = nn.Conv2d(12, 12, 1)
        self.head = nn.Linear(24, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        left, right = F.silu(self.left(x)), torch.sigmoid(self.right(x)) * x
        return self.head(torch.cat([left, right], 1).mean((2, 3)))


@pytest.mark.parametrize("order", ["reverse", "shuffle", "forward"])
def test_the_order_between_barriers_does_not_matter(
    standin: Standin, metal: Device, order: str
) -> None:
    module = harness.trained_like(Branches())
    for seed in range(3 if order == "shuffle" else 1):
        with standin.changed(order=order, seed=seed):
            run(metal, module, harness.images(2, 3, 16, 16), dtype="float32")


# Op records whose programs have the kernels that the cases above do not have.
TELLING = (
    "index_put",
    "argmax_int32",
    "experts",
    "max_pool2d_indices_plain",
    "adaptive_max_(1, 1)",
    "avg_pool1d_plain_True",
)


def _programs() -> Iterator[tuple[nn.Module, Sequence[torch.Tensor]]]:
    """What the tests above run, the most telling first."""
    for function, shapes in CASES.values():
        yield harness.Function(function), [harness.images(*shape) for shape in shapes]
    yield resnet18().eval(), [harness.images(1, 3, 32, 32)]
    yield Branches().eval(), [harness.images(2, 3, 16, 16)]
    for case in sorted(EVERY_CASE, key=lambda case: case.name not in TELLING):
        yield case.module(), case.inputs


def test_every_kernel_is_run() -> None:
    # Language models have this one: test_language_models.py.
    missing = set(KERNELS) - {"rotary_cache"}
    for module, inputs in _programs():
        program = npu_compiler.compile(harness.ir_of(module, inputs))
        missing -= {call.kernel_name for call in program.kernel_calls}
        if not missing:
            return
    assert not missing
