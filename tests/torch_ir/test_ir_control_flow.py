"""Control flow that torch.export keeps as sub-graphs: branches, loops and batched functions."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._higher_order_ops.map import map as map_over
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop

from tests.torch_ir.models import randomize
from tests.torch_ir.support import assert_same, check_model, ops_of
from torch_ir import ConversionError, IRExecutor, extract_ir


class Branches(nn.Module):
    """A cond with weights in its branches, inside and outside of a no_grad region."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> Any:
        chosen = torch.cond(
            x.sum() > 0, lambda t: (self.left(t), t * 2), lambda t: (self.right(t), t / 0), (x,)
        )
        with torch.no_grad():
            signed = torch.cond((x.amax() > 1).reshape(1), lambda t: t + 1, lambda t: -t, (x,))
        return chosen, signed


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_cond_runs_both_branches_and_chooses(sign: float) -> None:
    model = randomize(Branches())
    ir = extract_ir(model, torch.ones(2, 3))
    x = sign * (torch.rand(2, 3) + 1)
    outputs = IRExecutor(ir, model.state_dict()).execute(x)
    with torch.no_grad():
        (linear, scaled), signed = model(x)
    for output, expected in zip(outputs, (linear, scaled, signed), strict=True):
        assert_same(output, expected)
    check_model(model, x)
    assert ops_of(ir).count("aten.where.self") == 3


@pytest.mark.parametrize(
    "effect",
    [lambda t: t + torch.rand(3), lambda t: torch.dropout(t, 0.5, True)],
    ids=["random", "dropout"],
)
def test_a_branch_that_must_not_run_is_refused(
    effect: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    class Model(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cond(x.sum() > 0, effect, lambda t: t - 1, (x,))

    with pytest.raises(ConversionError, match=r"'cond': a flat graph runs both branches"):
        extract_ir(Model().eval(), torch.randn(3))


class Recurrent(nn.Module):
    """A scan with weights, a tree of carries and reversed results; a map over its results."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(3, 3)
        self.register_buffer("offset", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, start: torch.Tensor, steps: torch.Tensor) -> Any:
        def step(carry: Any, item: torch.Tensor) -> Any:
            total = self.cell(carry["total"]) + item + self.offset
            return {"total": total, "count": carry["count"] + 1}, total.sin()

        state = {"total": start, "count": torch.zeros((), dtype=torch.int64)}
        end, outputs = scan(step, state, steps)
        _, back = scan(lambda c, i: (c + i, (c * i).clone()), start, steps, reverse=True)
        return end, outputs, back, map_over(lambda row, y: row * y + 1, outputs, start)


def test_loops_over_a_fixed_number_of_elements_are_unrolled() -> None:
    # PyTorch's scan cannot have both an integer carry and weights with gradients.
    model = randomize(Recurrent()).requires_grad_(False)
    ir = check_model(model, (torch.randn(3), torch.randn(4, 3)))
    assert ops_of(ir).count("aten.linear.default") == 4
    assert ops_of(ir).count("aten.stack.default") == 3


def test_while_loop_is_refused() -> None:
    class Loop(nn.Module):
        def forward(self, i: torch.Tensor, x: torch.Tensor) -> Any:
            return while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * 2), (i, x))

    with pytest.raises(ConversionError, match="'while_loop' has control flow"):
        extract_ir(Loop().eval(), (torch.tensor(0), torch.randn(3)))


class Batched(nn.Module):
    """A vmap of a function that uses weights and a buffer, beside an update of the buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros(2))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        self.calls.add_(1)
        inner = torch.vmap(lambda a, b: (self.linear(a) * b).sum(), in_dims=(0, 1))
        return inner(x, y), self.calls


def test_vmap_becomes_batched_operators() -> None:
    ir = check_model(randomize(Batched()), (torch.randn(3, 4), torch.randn(4, 3)))
    assert all(op.startswith(("aten.", "<built-in")) for op in ops_of(ir))
    assert any(node.attrs.get("_mutates") == ["b_calls"] for node in ir.nodes)


def test_other_transforms_are_refused() -> None:
    class Gradient(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.func.grad(lambda t: (t**3).sum())(x)

    with pytest.raises(ConversionError, match=r"torch\.func cannot be flattened"):
        extract_ir(Gradient().eval(), torch.randn(3))


def test_an_object_as_an_input_is_refused() -> None:
    class Kind(enum.Enum):
        SUM = 1

    class Model(nn.Module):
        def forward(self, x: torch.Tensor, kind: Kind) -> torch.Tensor:
            return x * kind.value

    with pytest.raises(ConversionError, match=r"input 'kind' is a enum\.Enum; only tensors"):
        extract_ir(Model().eval(), (torch.randn(3), Kind.SUM))
