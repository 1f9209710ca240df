"""explain: placements, reasons, suggestions, bytes; the command; running an IR by segments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

import npu_compiler
from npu_compiler import explain
from npu_sim.cli import app
from tests.npu_compiler.ir_builder import IRBuilder, small_cnn
from tests.npu_sim.conftest import Files
from torch_ir import extract_ir


class Spectrum(nn.Module):
    """A transform that the NPU lacks between two layers that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 8) -> (N, 4)."""
        y = torch.relu(self.first(x))
        z = torch.fft.fft(y).abs()
        return self.second(z.double().float() + y)


@pytest.fixture(scope="module")
def spectrum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the IR, weights, an input and the expected output of Spectrum."""
    folder = tmp_path_factory.mktemp("spectrum")
    torch.manual_seed(0)
    model, x = Spectrum().eval(), torch.randn(3, 8)
    extract_ir(model, (x,), model_name="spectrum").save(folder / "ir.json")
    torch.save(model.state_dict(), folder / "weights.pt")
    np.save(folder / "x.npy", x.numpy())
    np.save(folder / "y.npy", model(x).detach().numpy())
    return folder


def call(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_supported_model() -> None:
    found = explain(small_cnn())
    assert found.runs_on_npu and not found.fallbacks and not found.causes
    assert found.summary == str(found) == "hand: all 6 nodes run on the NPU"
    assert {node.target for node in found.nodes} == {"npu"}


def test_reasons_values_sources_and_suggestions(spectrum: Path) -> None:
    found = explain(spectrum / "ir.json")
    cpu = {node.op_type: node for node in found.fallbacks}
    fft = cpu["aten.fft_fft.default"]
    assert fft.reason == "the NPU has no such operator"
    assert "test_explain.py:" in fft.source and "matrix product" in str(fft.suggestion)
    assert "is complex64" in str(cpu["aten.abs.default"].reason)
    doubles = [n for n in found.fallbacks if "float64" in str(n.reason)]
    assert doubles and all("torch.float32" in str(n.suggestion) for n in doubles)
    relu = next(n for n in found.nodes if n.op_type == "aten.relu.default")
    # relu's result goes to the CPU once, and the sum comes back.
    assert relu.boundary_bytes == fft.boundary_bytes == 3 * 8 * 4
    assert relu.results == ("float32[3, 8]",) and relu.target == "npu"
    assert found.plan.transferred_bytes == 2 * 3 * 8 * 4
    for part in ("spectrum: ", "2 NPU segments, 1 CPU segment", "192 bytes transferred"):
        assert part in found.summary
    assert json.loads(json.dumps(found.to_dict()))["nodes_cpu"] == len(found.fallbacks)


def test_reasons_come_from_the_constraint_check(spectrum: Path) -> None:
    ir = json.loads((spectrum / "ir.json").read_text())
    ir["nodes"] = [n for n in ir["nodes"] if "fft" not in n["op_type"]]
    b = IRBuilder()
    x = b.input("x", 2, 3, dtype="float64")
    y = b.node("a", "aten.relu.default", [x], [2, 3], dtype="float64")
    y = b.node("b", "aten.frobnicate.default", [y], [2, 3], dtype="float64")
    ir = b.output(y)
    violations = npu_compiler.check_constraints(npu_compiler.load_ir_from_dict(ir))
    assert [n.reason for n in explain(ir).fallbacks] == [v.reason for v in violations]


@pytest.mark.parametrize(
    ("op_type", "attrs", "advice"),
    [
        ("aten.dropout.default", {"p": 0.5, "train": True}, "model.eval()"),
        ("aten.masked_select.default", {}, "torch.where"),
        ("aten.bernoulli.default", {}, "pass them to the model as an input"),
        ("aten.conv_transpose3d.input", {}, "depth"),
        ("aten.lstm.input", {}, "LSTMCell"),
        ("aten.linalg_inv.default", {}, "before extract_ir"),
        ("aten.frobnicate.default", {}, "get_supported_ops"),
        ("aten.relu.default", {"more": 1}, "another way"),
    ],
)
def test_suggestions(op_type: str, attrs: dict[str, Any], advice: str) -> None:
    b = IRBuilder()
    x = b.input("x", 2, 3)
    (node,) = explain(b.output(b.node("n", op_type, [x], [2, 3], **attrs))).nodes
    if node.target == "npu":
        pytest.skip(f"the NPU has {op_type}")
    assert advice in str(node.suggestion)


def test_unused_nodes_and_state() -> None:
    b = IRBuilder()
    x, total = b.input("x", 3), b.weight("total", 3)
    b.node("dead", "aten.relu.default", [x], [3])
    y = b.node("count", "aten.add_.Tensor", [total, x], [3], _mutates=[total])
    found = explain(b.output(y))
    assert [n.target for n in found.nodes] == ["unused", "npu"]
    assert found.runs_on_npu and "1 weights kept as state by a DAGExecutor" in found.summary


def test_command(spectrum: Path, files: Files) -> None:
    result = call("explain", spectrum / "ir.json", "--mode", "consecutive")
    assert result.exit_code == 0 and "aten.fft_fft.default" in result.stdout
    assert result.stdout.splitlines()[0].startswith("spectrum: ")
    full = call("explain", spectrum / "ir.json", "--full", "--mode", "consecutive")
    names = [n["name"] for n in json.loads((spectrum / "ir.json").read_text())["nodes"]]
    assert all(name in full.stdout for name in names)
    parsed = json.loads(call("explain", spectrum / "ir.json", "--json").stdout)
    assert parsed["model_name"] == "spectrum" and not parsed["runs_on_npu"]
    failing = call("explain", spectrum / "ir.json", "--fail-on-fallback")
    assert failing.exit_code == 1 and "nodes run on the CPU: 'fft_fft'" in failing.stderr
    fine = call("explain", files.ir, "--fail-on-fallback")
    assert fine.exit_code == 0 and len(fine.stdout.splitlines()) == 1
    wrong = call("explain", files.ir, "--mode", "fast")
    assert wrong.exit_code == 2 and "choose from consecutive, cost" in wrong.stderr
    missing = call("explain", "none.json")
    assert missing.exit_code == 1 and "IR file not found" in missing.stderr


def test_compile_points_to_explain(spectrum: Path, tmp_path: Path) -> None:
    result = call("compile", spectrum / "ir.json", "-o", tmp_path / "out.npubin")
    assert result.exit_code == 1 and not (tmp_path / "out.npubin").exists()
    assert len(result.stderr.strip().splitlines()) == 1
    for part in ("complex64", "npu-sim explain"):
        assert part in result.stderr


@pytest.mark.parametrize("mode", ["cost", "consecutive"])
def test_run_takes_an_ir(spectrum: Path, tmp_path: Path, mode: str) -> None:
    out = tmp_path / "out.npz"
    arguments = ["-w", spectrum / "weights.pt", "-i", f"x={spectrum / 'x.npy'}", "-o", out]
    result = call("run", spectrum / "ir.json", *arguments, "--mode", mode)
    assert result.exit_code == 0, result.output
    assert "npu-sim explain" in result.stderr and "CPU segment" in result.stderr
    (found,) = np.load(out).values()
    expected = np.load(spectrum / "y.npy")
    assert np.abs(found - expected).max() < 4e-3 * np.abs(expected).max()
    parsed = json.loads(call("run", spectrum / "ir.json", *arguments, "--json").stdout)
    assert parsed["outputs"][0]["dtype"] == "float32"
    assert "--weights" in call("run", spectrum / "ir.json").stderr


def test_run_of_a_supported_ir_equals_its_program(files: Files, tmp_path: Path) -> None:
    outputs = []
    for model in (files.ir, files.program):
        out = tmp_path / f"{model.stem}.npz"
        arguments = ("-w", files.weights, "-i", f"input={files.image}", "-o", out)
        result = call("run", model, *arguments)
        assert result.exit_code == 0 and result.stderr == "", result.output
        outputs.append(next(iter(np.load(out).values())))
    np.testing.assert_array_equal(*outputs)
