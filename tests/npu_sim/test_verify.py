"""npu_sim.verify and its command: healthy models pass, what is wrong is named by its node."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from typer.testing import CliRunner

import npu_sim
from npu_compiler import ops
from npu_sim.cli import app
from npu_sim.verification.measure import difference
from tests.npu_compiler.harness import Function, images, trained_like
from tests.npu_compiler.test_models import MODELS
from tests.npu_sim.conftest import Files
from torch_ir import extract_ir


def verify(function: Callable[..., Any], *inputs: torch.Tensor, **options: Any) -> Any:
    module = function if isinstance(function, nn.Module) else Function(function)
    ir = extract_ir(module.eval(), inputs)
    return npu_sim.verify(ir, module.state_dict(), inputs, device="cpu", **options)


def spoil(monkeypatch: pytest.MonkeyPatch, op_type: str, emit: Callable[..., Any]) -> None:
    """Compile an operator wrongly."""
    record = ops.find_op(op_type)
    assert record is not None
    monkeypatch.setitem(ops._RECORDS, op_type, replace(record, emit=emit))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_healthy_models_pass(name: str, dtype: str) -> None:
    make, shapes = MODELS[name]
    torch.manual_seed(3)
    inputs = [images(*shape, seed=i) for i, shape in enumerate(shapes)]
    report = verify(trained_like(make()), *inputs, compute_dtype=dtype)
    assert report.ok, str(report)
    assert len(report.nodes) > 3 and report.outputs and "no divergence" in str(report)
    if name == "mobile":
        # Convolutions with their BatchNorm and activation.
        assert max(len(node.nodes) for node in report.nodes) == 3


class Chain(nn.Module):
    """Four elementwise nodes that become one dispatch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.sigmoid(F.max_pool2d(x, 2)) * 3
        return torch.softmax((torch.tanh(y) + 0.25).flatten(1), -1)


def test_the_wrong_node_of_a_fused_chain_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "aten.tanh.default", lambda builder, args: args["self"])
    report = verify(Chain(), images(2, 3, 6, 6))
    first = report.first
    assert first is not None and first.status == "diverges" and not report.ok
    assert first.culprit == "tanh" and len(first.nodes) > 2
    assert "test_verify.py" in first.source and "'tanh'" in str(report)
    # What follows is computed from wrong operands, but rightly.
    assert sum(node.diverges for node in report.nodes) == 1
    assert report.outputs[0].total.sqnr_db < 40 < report.outputs[0].own.sqnr_db


def test_overflow_of_float16_is_flagged() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(torch.mm(x * 300, x.t() * 300), -1)

    x = images(6, 8)
    report = verify(forward, x, compute_dtype="float16")
    first = report.first
    assert first is not None and first.status == "overflow" and first.op_type == "aten.mm.default"
    assert "65504" in str(report) and "bfloat16" in str(report)
    assert verify(forward, x, compute_dtype="float32").ok


def test_values_that_are_not_finite_are_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "aten.sigmoid.default", lambda b, args: b("div_f", args["self"], 0.0))
    report = verify(lambda x: torch.sigmoid(x) * 3, images(2, 3), compute_dtype="float32")
    assert report.first is not None and report.first.status == "not finite"
    # Infinities and NaN that PyTorch has as well are right.
    special = torch.tensor([[1.0, float("inf"), -float("inf"), float("nan"), 0.0]])
    assert verify(lambda x: torch.relu(x * 2), special, compute_dtype="float32").ok


def test_partitioned_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(x * 2) + 1
        z = torch.linalg.inv(torch.mm(y, y.t()) + torch.eye(4) * 9)
        return torch.tanh(z) * 2

    report = verify(forward, images(4, 6), compute_dtype="float32")
    assert report.ok and report.cpu_nodes and {node.segment for node in report.nodes} != {0}
    spoil(monkeypatch, "aten.tanh.default", lambda builder, args: args["self"])
    report = verify(forward, images(4, 6), compute_dtype="float32")
    assert report.first is not None and report.first.culprit == "tanh"


def test_writes_in_place_and_state() -> None:
    class Cache(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("cache", torch.zeros(4, 3))

        def forward(self, x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
            self.cache.index_copy_(0, at, x)
            y = x * 2
            y[0] = 5
            return self.cache.sum(0) + F.relu_(y).sum(0)

    module = Cache()
    report = verify(module, images(2, 3), torch.tensor([1, 3]), compute_dtype="float32")
    assert report.ok, str(report)
    assert not module.cache.any()


def test_bfloat16_models_are_compared_with_float32_arithmetic() -> None:
    make, shapes = MODELS["mlp"]
    module = trained_like(make()).to(torch.bfloat16)
    report = verify(module, images(*shapes[0]).to(torch.bfloat16))
    assert report.ok and report.compute_dtype == "bfloat16"


def test_differences() -> None:
    a = np.array([1.0, 2.0, np.inf, np.nan], np.float32)
    same = difference(a, a, "float32")
    assert same.sqnr_db == np.inf and not same.exceeds("float32")
    other = difference(np.array([1, 2, 3, np.nan], np.float32), a, "float32")
    assert other.nonfinite == 1 and other.exceeds("float32")
    large = difference(np.array([np.inf], np.float16), np.array([7e4], np.float32), "float16")
    assert large.overflow == 1 and large.nonfinite == 1
    # One wrong element of a million is more than noise.
    e = np.random.default_rng(0).standard_normal(1_000_000).astype(np.float32)
    w = e.copy()
    w[77] += 2
    assert difference(w, e, "float16").exceeds("float16")
    assert difference(np.array([1, 2]), np.array([1, 3]), "int64").exceeds("int64")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["verify", *map(str, arguments)])


def test_command(files: Files) -> None:
    done = run(files.ir, "-w", files.weights, "-i", f"input={files.image}", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert "no divergence" in done.stdout
    done = run(files.ir, "-w", files.weights, "--full", "--dtype", "float32")
    assert done.exit_code == 0 and "own SQNR" in done.stdout and "conv2d" in done.stdout
    done = run(files.ir, "-w", files.weights, "--json")
    report = json.loads(done.stdout)
    assert report["ok"] and report["first_divergence"] is None
    assert {"name", "status", "sqnr_db", "source"} <= report["nodes"][0].keys()


def test_command_exits_with_1_on_divergence(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(files.ir, "-w", files.weights, "--min-sqnr", 500, "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 1 and not report["ok"]
    assert report["first_divergence"]["status"] == "diverges"
    done = run(files.ir, "-w", files.weights, "--min-sqnr", 500)
    assert done.exit_code == 1 and "first at node" in done.stdout


def test_command_says_what_is_missing(files: Files, tmp_path: Path) -> None:
    done = run(files.ir)
    assert done.exit_code == 2 and "--weights" in done.stderr
    done = run(tmp_path / "none.json")
    assert done.exit_code == 1 and "not found" in done.stderr
    torch.save(files.case.state_dict, tmp_path / "weights.pt")
    assert run(files.ir, "-w", tmp_path / "weights.pt").exit_code == 0
