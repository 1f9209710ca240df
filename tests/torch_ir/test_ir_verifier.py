"""Verification: what counts as equal, and that failures are reported instead of raised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.torch_ir.models import DeepResNet, randomize
from tests.torch_ir.support import assert_same
from torch_ir import IR, VerificationReport, extract_ir, verify_ir, verify_ir_with_state_dict


class Scale(nn.Module):
    """Multiplies by a weight; the second output is an integer."""

    def __init__(self, value: float = 2.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([value, value, value]))

    def forward(self, x: torch.Tensor) -> Any:
        return x * self.scale, (x > 0).long(), 3


@pytest.fixture
def ir() -> IR:
    return extract_ir(Scale().eval(), torch.randn(3))


def test_passed(tmp_path: Path) -> None:
    model = randomize(DeepResNet(channels=8, blocks=1))
    x = torch.randn(1, 3, 8, 8)
    ir = extract_ir(model, x)
    path = tmp_path / "w.pt"
    torch.save(model.state_dict(), path)
    valid, report = verify_ir(ir, path, model, (x,))
    assert valid and report.is_valid and "PASSED" in str(report)
    assert report.num_outputs == 1 and report.error_message is None
    assert report.output_details == [
        {"index": 0, "shape": (1, 10), "is_close": True, "max_diff": 0.0, "mean_diff": 0.0}
    ]


def test_a_difference_fails_with_its_size(ir: IR) -> None:
    valid, report = verify_ir_with_state_dict(
        ir, Scale(2.5).state_dict(), Scale(), torch.tensor([1.0, -1.0, 0.0])
    )
    assert not valid and "FAILED" in str(report)
    assert report.max_diff == 0.5
    assert report.output_details[0]["mean_diff"] == pytest.approx(1 / 3)
    assert [d["is_close"] for d in report.output_details] == [False, True]


def test_tolerances(ir: IR) -> None:
    x = torch.ones(3)
    weights = Scale(2.001).state_dict()
    assert not verify_ir_with_state_dict(ir, weights, Scale(), x)[0]
    assert verify_ir_with_state_dict(ir, weights, Scale(), x, rtol=1e-3, atol=0)[0]
    assert verify_ir_with_state_dict(ir, weights, Scale(), x, rtol=0, atol=2e-3)[0]


def test_nan_and_infinity_match_themselves(ir: IR) -> None:
    x = torch.tensor([float("nan"), float("inf"), float("-inf")])
    valid, report = verify_ir_with_state_dict(ir, Scale().state_dict(), Scale(), x)
    assert valid and report.max_diff == 0
    valid, report = verify_ir_with_state_dict(ir, Scale(-2.0).state_dict(), Scale(), x)
    assert not valid and report.max_diff == float("inf")


class Cast(nn.Module):
    """Returns its input in another dtype or shape."""

    def __init__(self, dtype: torch.dtype, rows: int = 1) -> None:
        super().__init__()
        self.dtype, self.rows = dtype, rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(self.rows, -1).to(self.dtype)


@pytest.mark.parametrize("other", [Cast(torch.float64), Cast(torch.float32, rows=2)])
def test_dtype_and_shape_must_be_equal(other: nn.Module) -> None:
    ir = extract_ir(Cast(torch.float32).eval(), torch.ones(4))
    valid, report = verify_ir_with_state_dict(ir, {}, other, torch.ones(4))
    assert not valid
    assert "the model gives" in report.output_details[0]["reason"]


def test_large_integers_are_compared_exactly() -> None:
    class Add(nn.Module):
        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.step

    x = torch.tensor([2**60])
    ir = extract_ir(Add(1).eval(), x)
    assert verify_ir_with_state_dict(ir, {}, Add(1), x)[0]
    assert not verify_ir_with_state_dict(ir, {}, Add(2), x)[0]


def test_different_constant_or_number_of_outputs(ir: IR) -> None:
    class Other(Scale):
        def forward(self, x: torch.Tensor) -> Any:
            first, second, _ = super().forward(x)
            return first, second, 4

    class Fewer(Scale):
        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x)[0]

    for other, message in ((Other(), "constants"), (Fewer(), "1 tensors")):
        valid, report = verify_ir_with_state_dict(ir, other.state_dict(), other, torch.ones(3))
        assert not valid and message in str(report.error_message)


def test_failures_are_reported(ir: IR, tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no luck")

    weights = Scale().state_dict()
    cases: list[tuple[tuple[bool, VerificationReport], str]] = [
        (
            verify_ir_with_state_dict(ir, weights, Broken(), torch.ones(3)),
            "original model.*no luck",
        ),
        (verify_ir_with_state_dict(ir, {}, Scale(), torch.ones(3)), "executing.*scale"),
        (verify_ir_with_state_dict(ir, weights, Scale(), torch.ones(1)), "executing.*shape|3"),
        (verify_ir(ir, tmp_path / "gone.pt", Scale(), torch.ones(3)), "weights.*gone"),
    ]
    for (valid, report), message in cases:
        assert not valid and not report.is_valid
        assert report.error_message is not None
        import re

        assert re.search(message, report.error_message)
        assert "FAILED" in str(report)


def test_the_model_is_left_as_it_was() -> None:
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("state", torch.zeros(2))
            self.norm = nn.BatchNorm1d(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.state.add_(1)
            x.add_(1)
            return self.norm(x) + self.state

    model = Stateful().train()
    x = torch.randn(4, 2)
    kept = x.clone()
    with pytest.warns(UserWarning, match="train mode"):
        ir = extract_ir(model, x)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    valid, report = verify_ir_with_state_dict(ir, model.state_dict(), model, x)
    assert valid, report
    assert_same(x, kept)
    for key, value in model.state_dict().items():
        assert_same(value, before[key])


def test_non_persistent_buffers_come_from_the_model() -> None:
    class Rotary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("freq", torch.arange(4.0) / 3, persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.freq

    with torch.device("meta"):
        ir = extract_ir(Rotary().eval(), torch.randn(4, device="meta"))
    valid, report = verify_ir_with_state_dict(ir, {}, Rotary(), torch.randn(4))
    assert valid, report


def test_random_models_start_from_the_same_seed() -> None:
    class Noise(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand_like(x)

    ir = extract_ir(Noise().eval(), torch.zeros(3))
    state = torch.get_rng_state()
    assert verify_ir_with_state_dict(ir, {}, Noise(), torch.zeros(3))[0]
    assert_same(torch.get_rng_state(), state)
