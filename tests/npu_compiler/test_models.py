"""Whole models against PyTorch, and what their programs look like: dispatches, copies, memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import npu_compiler
from npu_compiler.compiled_program import CompiledProgram
from npu_sim.models.resnet import resnet18, resnet50
from tests.npu_compiler.harness import check, images, trained_like
from tests.npu_compiler.ir_builder import IRBuilder
from torch_ir import extract_ir


class Mobile(nn.Module):
    """Inverted residuals with squeeze-and-excitation; channels that are no multiples of 64."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 20, 3, 2, 1, bias=False), nn.BatchNorm2d(20))
        self.expand = nn.Sequential(nn.Conv2d(20, 72, 1, bias=False), nn.BatchNorm2d(72))
        self.depth = nn.Sequential(
            nn.Conv2d(72, 72, 3, 1, 1, groups=72, bias=False), nn.BatchNorm2d(72)
        )
        self.squeeze = nn.Conv2d(72, 10, 1)
        self.excite = nn.Conv2d(10, 72, 1)
        self.project = nn.Sequential(nn.Conv2d(72, 20, 1, bias=False), nn.BatchNorm2d(20))
        self.head = nn.Linear(20, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.hardswish(self.stem(x))
        y = F.relu6(self.depth(F.hardswish(self.expand(x))))
        gate = F.hardsigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        x = x + self.project(y * gate)
        return self.head(F.dropout(F.adaptive_avg_pool2d(x, 1).flatten(1), 0.2, self.training))


class Dense(nn.Module):
    """DenseNet-style: everything so far is concatenated; BatchNorm comes before the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(12 + 8 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(12 + 8 * i, 8, 3, padding=1) for i in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(F.relu(norm(x)))], 1)
        return F.avg_pool2d(x, 2)


class Net(nn.Module):
    """A U-shaped net with channel shuffle and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 24, 3, 2, 1)
        self.mid = nn.Conv2d(24, 24, 3, 1, 1, groups=3)
        self.out = nn.Conv2d(27, 5, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = F.leaky_relu(self.down(x), 0.1)
        y = self.mid(y)
        n, c, h, w = y.shape
        y = y.view(n, 3, c // 3, h, w).transpose(1, 2).reshape(n, c, h, w)
        both = torch.cat([F.max_pool2d(x, 2), y], 1)
        return self.out(both), torch.softmax(both.amax((2, 3)), -1)


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(70, 130),
        nn.BatchNorm1d(130),
        nn.GELU(),
        nn.Dropout(0.3),
        nn.Linear(130, 50),
        nn.SiLU(),
        nn.Linear(50, 3),
        nn.LogSoftmax(-1),
    )


class Attention(nn.Module):
    """Multi-head attention from views and matmuls."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(24, 72)
        self.out = nn.Linear(24, 24)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        b, s, _ = x.shape
        q, k, v = (t.view(b, s, 3, 8).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        scores = (q @ k.transpose(-2, -1)) / 8**0.5 + mask
        y = torch.softmax(scores, -1) @ v
        return x + self.out(y.transpose(1, 2).reshape(b, s, 24))


MODELS = {
    "mobile": (Mobile, [(2, 3, 17, 18)]),
    "dense": (Dense, [(2, 3, 8, 10)]),
    "net": (Net, [(2, 3, 12, 8)]),
    "mlp": (_mlp, [(5, 70)]),
    "attention": (Attention, [(2, 6, 24), (6, 6)]),
}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_model(name: str, dtype: str) -> None:
    make, shapes = MODELS[name]
    torch.manual_seed(3)
    inputs = [images(*shape, seed=i) for i, shape in enumerate(shapes)]
    check(trained_like(make()), *inputs, compute_dtype=dtype)


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_model(name: str) -> None:
    make, shapes = MODELS[name]
    torch.manual_seed(3)
    inputs = [images(*shape, seed=i).to(torch.bfloat16) for i, shape in enumerate(shapes)]
    result = check(trained_like(make()).to(torch.bfloat16), *inputs, compute_dtype=None)
    assert result.program.compute_dtype == "bfloat16"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_resnet18(dtype: str) -> None:
    torch.manual_seed(0)
    size = 64 if dtype == "float32" else 40
    result = check(
        trained_like(resnet18()), images(2, 3, size, size), compute_dtype=dtype, devices=["cpu"]
    )
    expected = ["conv2d", "max_pool2d", *["conv2d"] * 19, "adaptive_avg_pool2d", "linear"]
    assert result.kernels == expected
    assert result.copies == 0


def _meta_program(make: object, batch: int = 1) -> CompiledProgram:
    with torch.device("meta"):
        model = make().eval()  # type: ignore[operator]
        ir = extract_ir(model, torch.randn(batch, 3, 224, 224, device="meta"))
    return npu_compiler.compile(json.loads(json.dumps(ir.to_dict())))


@pytest.mark.parametrize("make", [resnet18, resnet50])
@pytest.mark.parametrize("batch", [1, 4])
def test_arena_is_near_the_lower_bound(make: object, batch: int) -> None:
    program = _meta_program(make, batch)
    bound = int(program.metadata["arena_lower_bound"])
    assert bound <= program.arena_size <= bound * 1.05
    _check_lives(program)


def _check_lives(program: CompiledProgram) -> None:
    """No two arena buffers that live at once overlap, but for in-place successions."""
    arena = [(i, b) for i, b in enumerate(program.buffer_allocations) if b.kind == "arena"]
    for n, (i, a) in enumerate(arena):
        for j, b in arena[n + 1 :]:
            if a.last_use < b.first_use or b.last_use < a.first_use:
                continue
            if a.offset + a.size_bytes <= b.offset or b.offset + b.size_bytes <= a.offset:
                continue
            assert (b.alias_of == i and a.last_use == b.first_use) or (
                a.alias_of == j and b.last_use == a.first_use
            )


def test_residuals_are_added_in_place() -> None:
    program = _meta_program(resnet18)
    taken = [b for b in program.buffer_allocations if b.alias_of is not None]
    assert len(taken) == 8


def test_float16_model() -> None:
    torch.manual_seed(3)
    model = trained_like(Mobile()).to(torch.float16)
    result = check(model, images(2, 3, 17, 18).to(torch.float16), compute_dtype=None)
    assert result.program.compute_dtype == "float16"
    assert result.program.input_specs[0].dtype == "float16"


def test_many_buffers_are_planned_quickly_and_well() -> None:
    """A long chain of blocks with skip connections of different lengths."""
    b = IRBuilder()
    values = [b.input("x", 1, 64, 8, 8)]
    for i in range(600):
        read = [values[-1], values[max(0, len(values) - 2 - i % 7)]]
        op = "aten.max_pool2d.default" if i % 3 == 0 else "aten.add.Tensor"
        attrs = {"kernel_size": [1, 1]} if i % 3 == 0 else {}
        values.append(b.node(f"n{i}", op, read[: 1 if attrs else 2], [1, 64, 8, 8], **attrs))
    program = npu_compiler.compile(b.output(values[-1]))
    assert program.arena_size <= 1.15 * int(program.metadata["arena_lower_bound"])


def _sizes(program: CompiledProgram) -> Sequence[int]:
    return [b.size_bytes for b in program.buffer_allocations if b.kind == "arena"]


def test_memory_is_reused() -> None:
    layers = [m for _ in range(6) for m in (nn.Conv2d(8, 8, 3, padding=1), nn.Sigmoid())]
    result = check(nn.Sequential(*layers, nn.Flatten()), images(1, 8, 8, 8))
    assert result.program.arena_size <= 2 * max(_sizes(result.program))
    uses = [b for b in result.program.buffer_allocations if b.kind == "arena"]
    assert all(a.first_use <= b.first_use for a, b in pairwise(uses))


def test_infinity_does_not_leak_out_of_channel_padding() -> None:
    # Zero weights times infinity are NaN in the padded channels; no later kernel may read them.
    model = nn.Sequential(nn.Conv2d(20, 24, 1), nn.ReLU(), nn.Conv2d(24, 5, 1), nn.Flatten())
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.1, 1.0)
    x = images(2, 20, 3, 3)
    x[1, 7, 2, 1] = float("inf")
    result = check(model, x)
    assert torch.isinf(torch.from_numpy(result.outputs[0])).sum() == 5
