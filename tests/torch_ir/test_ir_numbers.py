"""What gave wrong numbers elsewhere: each case must come out of JSON equal to eager, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.torch_ir.memory import peak_bytes
from tests.torch_ir.models import randomize
from tests.torch_ir.support import check_model
from torch_ir import IRExecutor, extract_ir

INF = float("inf")
IDS = torch.tensor([0, 2049, 65505, 70001, 2**31 + 7])


class Fn(nn.Module):
    """A module around a plain function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: torch.Tensor) -> Any:
        return self.function(*args)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    scores = q @ k.transpose(-1, -2) * 0.3
    return (scores + mask).softmax(-1) @ v


def _mask() -> torch.Tensor:
    mask = torch.zeros(4, 5).masked_fill(torch.arange(20).reshape(4, 5) % 3 == 0, -INF)
    mask[1] = -INF  # A row that sees nothing: NaN, as in PyTorch.
    return mask


def _r(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


CASES: dict[str, tuple[Callable[..., Any], tuple[torch.Tensor, ...]]] = {
    "division by a scalar": (lambda x: (x / 3, x / 7.0, x // 3), (_r(9) * 1e3,)),
    "alpha": (lambda x, y: (x.add(y, alpha=2), x.sub(y, alpha=3)), (_r(3), _r(3))),
    "dilation": (
        lambda x, w: F.conv2d(x, w, dilation=2, padding=2, stride=2),
        (_r(1, 2, 9, 9), _r(3, 2, 3, 3)),
    ),
    "pooling": (
        lambda x: (
            F.max_pool2d(x, 3, 2, 1, dilation=2, ceil_mode=True),
            F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        ),
        (_r(1, 2, 11, 11),),
    ),
    "uneven adaptive pooling": (lambda x: F.adaptive_avg_pool2d(x, (3, 5)), (_r(1, 2, 7, 8),)),
    "matrix products": (
        lambda a, b, c: (
            torch.addmm(a, b, c, beta=0.5, alpha=2),
            torch.baddbmm(a[None], b[None], c[None]),
            b.mm(c),
            b[0] @ c,
            b @ c[:, 0],
            b[0] @ c[:, 0],
        ),
        (_r(3, 5), _r(3, 4), _r(4, 5)),
    ),
    "broadcast batches": (torch.matmul, (_r(2, 1, 3, 4), _r(5, 4, 2))),
    "reductions": (
        lambda x: (
            x.softmax(0),
            x.softmax(-2),
            x.mean((0, -1), keepdim=True),
            x.sum(1),
            x.argmax(0, keepdim=True),
            x.argmax(),
            x.mean((2, 3)),
        ),
        (_r(2, 3, 4, 5),),
    ),
    "cat": (
        lambda x, y: torch.cat([x, y, x, torch.empty(0), y], 1),
        (_r(2, 3, 2, 2), _r(2, 1, 2, 2)),
    ),
    "transposes": (
        lambda x: (x.transpose(0, -1), x.permute(2, 0, 3, 1), x.movedim(0, 2)),
        (_r(2, 3, 4, 5),),
    ),
    "slices": (lambda x: (x[::2, 1:-1:3], x.select(-1, 2), x[:, -3:]), (_r(7, 9),)),
    "expand": (lambda x: x.expand(3, -1, 4, 4) * 2, (_r(1, 2, 1, 4),)),
    "gated linear units": (lambda a, b: (F.silu(a) * b, b * F.silu(a)), (_r(3, 4), _r(4))),
    "attention with a masked row": (_attend, (_r(2, 4, 8), _r(2, 5, 8), _r(2, 5, 8), _mask())),
    "grouped keys": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.2, enable_gqa=True),
        (_r(1, 6, 4, 8), _r(1, 2, 4, 8), _r(1, 2, 4, 8)),
    ),
    "large integers": (
        lambda i: (i + 1, i.float(), i.to(torch.int32), i > 2049, i.cumsum(0), i % 7),
        (IDS,),
    ),
    "integer constructors": (
        lambda i: (torch.arange(3, 9, 2) + i[0], torch.full((2,), 70001), i.masked_fill(i > 9, -1)),
        (IDS,),
    ),
    "bool": (
        lambda b: (b & ~b.roll(1), b.sum(), torch.where(b, 3, 5), b.to(torch.uint8) * 255),
        (torch.tensor([True, False, True]),),
    ),
    "conversions": (
        lambda x: (x.to(torch.float16).to(torch.float32), x.to(torch.bfloat16), x.long(), x.bool()),
        (torch.tensor([1.0009765, -2.7, 0.0, 65519.0]),),
    ),
    "NaN and infinity": (
        lambda x: (x.relu(), x.max(), x.softmax(0), x.clamp(-1, 1), x.amax(), x.argmax()),
        (torch.tensor([1.0, float("nan"), INF, -INF]),),
    ),
    "split": (lambda x: (*x.split([1, 2, 4], 1), *x.chunk(3, 1)), (_r(2, 7),)),
    "view of an updated tensor": (
        lambda x: (y := x.clone(), y[0].add_(1), y.t()[1].mul_(2), y.view(-1)[:4] + 1),
        (_r(3, 3),),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_eager(case: str) -> None:
    function, inputs = CASES[case]
    check_model(Fn(function).eval(), inputs)


class Fold(nn.Module):
    """Convolutions with and without bias before normalisations whose statistics are not 0 and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(3, 4, 3, bias=False)
        self.biased = nn.Conv2d(4, 4, 3)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4, eps=1e-2) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norms[1](self.biased(self.norms[0](self.plain(x))))


@pytest.mark.parametrize("batch", [1, 3])
def test_normalisation_after_convolution(batch: int) -> None:
    model = randomize(Fold())
    assert float(model.norms[0].running_mean.abs().max()) > 0
    check_model(model, torch.randn(batch, 3, 8, 8))


def test_a_cache_is_not_copied_from_step_to_step() -> None:
    class Cache(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("keys", torch.zeros(1, 4096, 64))

        def forward(self, key: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
            self.keys.index_copy_(1, position, key)
            return (key @ self.keys.transpose(1, 2)).softmax(-1) @ self.keys

    model, inputs = Cache().eval(), (torch.randn(1, 1, 64), torch.tensor([5]))
    executor = IRExecutor(extract_ir(model, inputs), model.state_dict())
    peak, _ = peak_bytes(lambda: executor.execute(inputs))
    assert peak < model.keys.nbytes / 4
