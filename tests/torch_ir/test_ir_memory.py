"""Peak memory of execution: at most a tenth above that of eager mode, and nothing is kept.

The allocator's own records are counted, so the figures are exact and the same at every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.torch_ir.memory import Attention, peak_bytes
from npu_sim.models import resnet18, resnet50
from tests.families.cnn import UNet
from tests.models.skip_connections import DenseBlock
from tests.reports.check import one_thread
from torch_ir import IRExecutor, extract_ir


class Views(nn.Module):
    """Views outlive the names of what they look at; results of split are dropped one by one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(256)
        for index in range(6):
            left, right = (x * (index + 1)).split(512, 0)
            window = left.transpose(0, 1)[:, ::2]
            del left
            total = total + window.sum(1) + right.exp().amax(0)
        return total


class InPlace(nn.Module):
    """A chain that eager mode computes without new memory."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        for _ in range(5):
            y.add_(1).relu_()
        return y


class ManyResults(nn.Module):
    """Operators with several large results, of which one is used."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(4):
            x = x.sort(dim=1)[0].cummax(1)[0] * 0.5
        return x


CASES: dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {
    "resnet18": lambda: (resnet18(), torch.randn(8, 3, 64, 64)),
    "resnet50": lambda: (resnet50(), torch.randn(8, 3, 64, 64)),
    "dense": lambda: (DenseBlock(), torch.randn(8, 16, 64, 64)),
    "unet": lambda: (UNet(), torch.randn(4, 3, 64, 64)),
    "attention": lambda: (
        nn.Sequential(*(Attention(16) for _ in range(3))),
        torch.randn(1, 1024, 16),
    ),
    "lstm": lambda: (nn.LSTM(32, 64, 2), torch.randn(256, 16, 32)),
    "mlp": lambda: (
        nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(128, 128), nn.GELU()))),
        torch.randn(2048, 128),
    ),
    "views": lambda: (Views(), torch.randn(1024, 256)),
    "in place": lambda: (InPlace(), torch.randn(1 << 16)),
    "many results": lambda: (ManyResults(), torch.randn(256, 256)),
}


@pytest.fixture(autouse=True)
def compute_on_one_thread() -> Iterator[None]:
    with one_thread():
        yield


def both(model: nn.Module, inputs: torch.Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
    """Peak and remaining bytes of eager mode, and of the IR."""
    executor = IRExecutor(extract_ir(model, inputs), model.state_dict())

    def eager() -> Any:
        with torch.no_grad():
            return model(inputs)

    return peak_bytes(eager), peak_bytes(lambda: executor.execute(inputs))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:The tensor attributes")
def test_peak_is_within_a_tenth_of_eager(case: str) -> None:
    torch.manual_seed(0)
    model, inputs = CASES[case]()
    (eager_peak, eager_left), (ir_peak, ir_left) = both(model.eval(), inputs)
    assert eager_peak > 100_000
    assert ir_peak <= 1.1 * eager_peak
    # Nothing but the results outlives a run.
    assert ir_left <= eager_left


def test_the_count_sees_what_is_kept_alive() -> None:
    """The measure itself: a chain that keeps every intermediate counts them all."""
    x = torch.randn(1 << 16)

    def keep() -> list[torch.Tensor]:
        results = [x]
        for _ in range(5):
            results.append(results[-1] * 2)
        return results[-1:]

    size = 4 << 16
    for run, held in ((keep, 5), (lambda: x * 2 * 2 * 2, 2)):
        peak, left = peak_bytes(run)
        # Numbers become tensors of a few bytes on their way.
        assert held * size <= peak < held * size + 100
        assert left == size


def test_repeated_runs_do_not_pile_up() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)).eval()
    x = torch.randn(512, 64)
    executor = IRExecutor(extract_ir(model, x), model.state_dict())
    one = peak_bytes(lambda: executor.execute(x))
    assert (
        peak_bytes(lambda: [executor.execute(x) for _ in range(4)][-1:])[0] <= one[0] + 4 * one[1]
    )


def test_in_place_activations_cost_no_copies_of_inputs_or_weights() -> None:
    """Convolutions and norms are composite operators, but what they return is new."""
    model, x = resnet18().eval(), torch.randn(1, 3, 64, 64)
    ir = extract_ir(model, x)
    assert any(node.op_type == "aten.relu_.default" for node in ir.nodes)
    executor = IRExecutor(ir, model.state_dict())
    assert not executor._written_inputs and not executor._written_weights
