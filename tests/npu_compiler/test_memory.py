"""The arena plan: nothing alive overlaps, the size is near the lower bound, planning is quick; and
tensors of no elements, of one, and of too many.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import npu_compiler
from npu_compiler.errors import ConstraintError
from npu_compiler.kernels import KERNELS
from npu_compiler.lowering import Dispatch
from npu_compiler.memory import check_plan, plan_memory
from npu_compiler.view import Storage
from tests.npu_compiler.harness import Function, check, images, ir_of
from tests.npu_compiler.ir_builder import IRBuilder


def _storage(name: str, size: int) -> Storage:
    shape = (size // 4,)
    return Storage(name, "arena", "float32", "float32", shape, shape, (1,), "row_major")


def _graph(count: int, seed: int, skips: float) -> list[Dispatch]:
    """Dispatches that read the last result and perhaps an older one, as layers with skips do."""
    choose = random.Random(seed)
    kernel = KERNELS["elementwise"]
    alive = [_storage("first", 1024)]
    found = []
    for step in range(count):
        out = _storage(f"s{step}", 64 * choose.choice([1, 4, 16, 24, 96, 140, 560, 1000]))
        reads = [alive[-1], *([choose.choice(alive)] if choose.random() < 0.3 else [])]
        operands = dict.fromkeys(o.name for o in kernel.operands)
        operands |= {f"in{k}": storage.view() for k, storage in enumerate(reads)}
        operands["out0"] = out.view()
        found.append(Dispatch(kernel, operands, {}, "", None, None))
        alive.append(out)
        if len(alive) > 6:
            alive.pop(0 if choose.random() > skips else 1)
    return found


@pytest.mark.parametrize("count", [0, 1, 2, 10, 60, 300])
@pytest.mark.parametrize("skips", [0.0, 0.05, 0.5])
def test_random_plans_are_sound_and_tight(count: int, skips: float) -> None:
    for seed in range(3):
        plan = plan_memory(_graph(count, seed, skips))
        check_plan(plan)
        assert plan.lower_bound <= plan.arena_size <= 1.1 * plan.lower_bound


def test_planning_is_quick() -> None:
    dispatches = _graph(2000, 0, 0.05)
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        plan = plan_memory(dispatches)
        best = min(best, time.process_time() - start)
    assert best < 0.1 and plan.arena_size <= 1.1 * plan.lower_bound


class Bottleneck(nn.Module):
    """A residual block as in ResNet-50."""

    def __init__(self, channels: int, inner: int, out: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, stride, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        same = channels == out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, out, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.layers(x) + self.shortcut(x))


def _resnet50() -> nn.Module:
    blocks: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    channels = 64
    for inner, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(count):
            blocks.append(Bottleneck(channels, inner, 4 * inner, stride if i == 0 else 1))
            channels = 4 * inner
    tail = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))
    return nn.Sequential(*blocks, *tail)


class Encoder(nn.Module):
    """Transformer layers as in ViT-B and BERT-base, of fewer layers."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * layers))
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.up = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(layers))
        self.down = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, qkv in enumerate(self.qkv):
            b, n, d = x.shape
            parts = qkv(self.norms[2 * i](x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(*parts.unbind(0))
            x = x + self.out[i](mixed.transpose(1, 2).reshape(b, n, d))
            x = x + self.down[i](F.gelu(self.up[i](self.norms[2 * i + 1](x))))
        return x


_MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet50": (_resnet50, (1, 3, 224, 224)),
    "vit_b": (lambda: Encoder(768, 12, 3), (1, 197, 768)),
    "bert_base": (lambda: Encoder(768, 12, 3), (2, 128, 768)),
}


@pytest.mark.parametrize("name", _MODELS)
def test_arenas_of_models_are_near_the_lower_bound(name: str) -> None:
    make, shape = _MODELS[name]
    with torch.device("meta"):
        module, x = make().eval(), torch.empty(shape)
    program = npu_compiler.compile(ir_of(module, (x,)))
    assert program.arena_size <= 1.1 * int(program.metadata["arena_lower_bound"])


def test_tensors_of_no_elements_and_of_one() -> None:
    def forward(x: torch.Tensor, none: torch.Tensor, one: torch.Tensor) -> list[torch.Tensor]:
        return [
            none * 2,
            torch.cat([none, x], 0),
            none.reshape(5, 0).t() + 1,
            F.pad(none, (1, 1, 2, 0)),
            one * 3,
            one.expand(2, 3) + x[:2, :3],
            x.sum() + one,
            none.repeat(3, 2),
        ]

    check(Function(forward), images(4, 6), torch.empty(0, 6), torch.tensor(1.5))


def test_images_of_no_elements() -> None:
    def forward(x: torch.Tensor) -> list[torch.Tensor]:
        return [F.relu(x) + 1, x.flatten(1), torch.cat([x, x], 2), x.flip(2)]

    check(Function(forward), torch.empty(2, 5, 0, 3))
    check(Function(forward), torch.empty(0, 5, 4, 3))


@pytest.mark.parametrize("shape", [[1 << 20, 1 << 20], [1 << 31], [(1 << 31) - 1, 64, 64]])
def test_a_tensor_of_too_many_bytes_is_a_typed_error(shape: list[int]) -> None:
    b = IRBuilder()
    x = b.input("x", 1)
    y = b.node("big", "aten.expand.default", [x], shape, size=shape)
    ir = b.output(b.node("relu", "aten.relu.default", [y], shape))
    with pytest.raises(ConstraintError, match=r"node 'big'.*(needs \d+ bytes|has a size over)"):
        npu_compiler.compile(ir)
