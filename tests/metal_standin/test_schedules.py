"""Every schedule of a kernel record runs on the Metal device and computes what PyTorch does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.schedule import Schedule
from npu_runtime.device import Device
from tests.gpu.launches import chosen
from tests.metal_standin.messages import DISPATCH
from tests.metal_standin.standin import Standin
from tests.metal_standin.test_ops import run
from tests.npu_compiler.experts import Experts, routed
from tests.npu_compiler.harness import Function, images, trained_like

Made = tuple[nn.Module, tuple[torch.Tensor, ...], dict[str, Any]]


class Gated(nn.Module):
    """A linear layer of two parts."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(width, inner, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(self.gate(x)) * self.up(x)


def linear(rows: int, k: int, n: int, gated: bool = False) -> Made:
    layer = Gated(k, n) if gated else nn.Linear(k, n)
    return trained_like(layer), (images(rows, k),), {"weights_in_place": True}


def product(batch: int, m: int, k: int, n: int) -> Made:
    return Function(torch.matmul), (images(batch, m, k), images(batch, k, n, seed=1)), {}


def attention(queries: int, keys: int) -> Made:
    shapes = ((1, 1, queries, 64), (1, 1, keys, 64), (1, 1, keys, 64))
    inputs = tuple(images(*shape, seed=i) for i, shape in enumerate(shapes))
    return Function(F.scaled_dot_product_attention), inputs, {}


def convolution(ic: int, oc: int, taps: int, height: int, width: int) -> Made:
    layer = nn.Conv2d(ic, oc, taps, 1, taps // 2)
    return trained_like(layer), (images(1, ic, height, width),), {}


def extreme(rows: int, length: int) -> Made:
    return Function(lambda x: x.argmax(-1)), (images(rows, length),), {}


# By kernel and schedule: what a GPU device runs so, as small as it may be.
PROGRAMS: dict[tuple[str, str], Callable[[], Made]] = {
    ("arg_reduce", "wide"): lambda: extreme(3, 5000),
    ("arg_reduce", "long"): lambda: extreme(3, 5003),
    ("attention", "group"): lambda: attention(2, 40),
    ("attention", "split"): lambda: attention(2, 1300),
    ("attention", "tiles_split"): lambda: attention(100, 1100),
    ("attention", "tiles"): lambda: attention(100, 70),
    ("conv2d", "tiles_large"): lambda: convolution(64, 128, 1, 128, 256),
    ("conv2d", "split"): lambda: convolution(64, 72, 3, 5, 7),
    ("conv2d", "tiles"): lambda: convolution(64, 72, 1, 9, 11),
    ("expert_linear", "wide"): lambda: (Experts(5, 64, 80), routed(3, 5, 64), {}),
    ("gemm", "tiles_large"): lambda: product(256, 9, 24, 16),
    ("gemm", "split"): lambda: product(1, 70, 520, 40),
    ("gemm", "tiles"): lambda: product(2, 70, 40, 72),
    ("linear", "row"): lambda: linear(1, 32, 8192),
    ("linear", "row_split"): lambda: linear(1, 264, 136),
    ("linear", "rows"): lambda: linear(6, 32, 8192),
    ("linear", "rows_split"): lambda: linear(6, 264, 136),
    ("linear", "tiles_large"): lambda: linear(2048, 16, 2048),
    ("linear", "split"): lambda: linear(70, 520, 72),
    ("linear", "tiles"): lambda: linear(70, 64, 72),
    ("linear", "tiles_pair"): lambda: linear(70, 64, 72, gated=True),
}


@pytest.mark.parametrize(("kernel", "schedule"), PROGRAMS)
def test_computes_what_pytorch_does(
    standin: Standin, metal: Device, kernel: str, schedule: str
) -> None:
    module, inputs, options = PROGRAMS[kernel, schedule]()
    result = run(metal, module, *inputs, dtype="float16", **options)
    calls = result.program.kernel_calls
    picked = [(call.kernel_name, chosen(call)) for call in calls]
    assert (kernel, schedule) in {(name, s.name) for name, s in picked if s is not None}
    # The device sends as many dispatches as its schedules have launches.
    assert standin.messages(DISPATCH) == sum(_launches(s) for _, s in picked)


def _launches(schedule: Schedule | None) -> int:
    return 1 if schedule is None else len(schedule.stages)


def test_no_schedule_is_left_out() -> None:
    assert PROGRAMS.keys() == {(k.name, s.name) for k in KERNELS.values() for s in k.schedules}
