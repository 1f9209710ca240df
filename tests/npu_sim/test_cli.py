"""The command line: results, JSON, exit statuses, one-line errors."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from npu_compiler import ProgramCache
from npu_sim.cli import app
from npu_sim.pipeline import build_model, extract
from tests.npu_runtime.linked import linked
from tests.npu_runtime.programs import small_net
from tests.npu_sim.conftest import Files


def call(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments])


def parsed(*arguments: object) -> Any:
    """The JSON that a command prints, which must be all that it prints."""
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def failed(*arguments: object, status: int = 1) -> str:
    """The error of a command: one line on stderr, nothing on stdout."""
    result = call(*arguments)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("npu-sim: error: ")
    return lines[0]


def test_help_of_every_command_has_an_example() -> None:
    text = call("--help").stdout
    for command in ("devices", "compile", "info", "run", "profile", "bench", "demo"):
        assert command in text
        page = call(command, "--help")
        assert page.exit_code == 0
        assert f"npu-sim {command}" in page.stdout
        assert "--json" in page.stdout


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from npu_sim.cli import app; from typer.testing import CliRunner; "
        "CliRunner().invoke(app, ['--help']); "
        "print([m for m in ('numpy', 'torch', 'rich', 'npu_runtime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_as_a_module() -> None:
    command = [sys.executable, "-m", "npu_sim"]
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    assert (version.returncode, version.stdout[:8]) == (0, "npu-sim ")
    missing = subprocess.run(
        [*command, "info", "nothing.npubin"], capture_output=True, text=True, check=False
    )
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith("npu-sim: error: nothing.npubin")
    assert missing.stderr.count("\n") == 1
    usage = subprocess.run([*command, "frobnicate"], capture_output=True, text=True, check=False)
    assert usage.returncode == 2


def test_devices() -> None:
    rows = parsed("devices")["devices"]
    assert {"cpu", "reference"} <= {row["kind"] for row in rows}
    assert sum(row["default"] for row in rows) == 1
    text = call("devices").stdout
    assert "cpu" in text
    assert "default" in text


def test_compile(files: Files, tmp_path: Path) -> None:
    out = tmp_path / "a.npubin"
    data = parsed("compile", files.ir, "-o", out, "--compute-dtype", "bfloat16")
    assert data["compute_dtype"] == "bfloat16"
    assert data["path"] == str(out)
    assert data["compile_seconds"] > 0
    assert data["num_dispatches"] == sum(k["dispatches"] for k in data["kernels"]) > 0
    assert out.stat().st_size > 0
    text = call("compile", files.ir, "-o", tmp_path / "b.npubin").stdout
    assert "float16" in text


def test_info(files: Files) -> None:
    data = parsed("info", files.program)
    (given,), (got,) = data["inputs"], data["outputs"]
    assert (given["name"], given["shape"], given["dtype"]) == ("x", [2, 3, 12, 12], "float32")
    assert (given["storage_dtype"], given["alloc_shape"]) == ("float16", [2, 64, 12, 12])
    assert got["shape"] == [2, 10]
    assert data["arena_bytes"] >= data["arena_lower_bound_bytes"] > 0
    assert data["num_weights"] == len(files.case.program.weight_specs)
    assert data["weight_bytes"] > 0
    conv = next(k for k in data["kernels"] if k["name"] == "conv2d")
    assert conv["dispatches"] == 2
    assert conv["flops"] > 0
    text = call("info", files.program).stdout
    for word in ("SmallNet", "conv2d", "arena", "float16", "dispatches"):
        assert word in text


def test_info_of_a_linked_program(tmp_path: Path) -> None:
    path = tmp_path / "linked.npubin"
    path.write_bytes(linked().to_bytes())
    prefill, decode = parsed("info", path)["entry_points"]
    assert (prefill["name"], decode["name"]) == ("prefill", "decode")
    assert prefill["inputs"][0]["shape"] == [8]
    assert decode["inputs"][0]["shape"] == [1]
    assert decode["num_dispatches"] > 0
    text = call("info", path).stdout
    assert "of all 2 entry points" in text
    assert "decode: " in text


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_run(files: Files, tmp_path: Path, device: str) -> None:
    out = tmp_path / "out.npz"
    arguments = ("run", files.program, "-w", files.weights, "-i", f"x={files.image}")
    data = parsed(*arguments, "-o", out, "--device", device)
    name = files.case.program.output_specs[0].name
    result = np.load(out)[name]
    np.testing.assert_allclose(result, files.case.expected[0], rtol=5e-3, atol=5e-3)
    (row,) = data["outputs"]
    assert (row["name"], row["shape"], row["dtype"]) == (name, [2, 10], "float32")
    assert row["max"] == pytest.approx(float(result.max()))
    assert data["device"] == device
    assert data["run_ms"] > 0
    assert name in call(*arguments, "-d", device).stdout


def test_run_by_alias(files: Files) -> None:
    data = parsed("run", files.program, "-w", files.weights, "-i", f"input={files.image}")
    assert len(data["outputs"]) == 1


def test_profile(files: Files, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    data = parsed(
        "profile", files.program, "-w", files.weights, "--iterations", 2, "--trace", trace
    )
    assert data["runs"] == 2
    assert data["trace"] == str(trace)
    assert {k["name"] for k in data["kernels"]} >= {"conv2d", "linear"}
    assert json.loads(trace.read_text())["traceEvents"]
    plain = call("profile", files.program, "--iterations", 1, "--top", 1)
    assert plain.exit_code == 0
    assert "random" in plain.stderr
    assert "conv2d" in plain.stdout


def test_bench_of_a_program(files: Files) -> None:
    data = parsed("bench", files.program, "--rounds", 2, "--turn-ms", 1)
    (row,) = data["contenders"]
    assert row["median_ms"] >= row["min_ms"] > 0
    assert row["iqr_ms"] >= 0
    assert row["ratio"] == 1


def test_bench_of_a_model_beside_an_absent_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npu_sim.pipeline.build_model", cached_model)
    from npu_sim.bench import contenders

    real = contenders.installed
    monkeypatch.setattr(contenders, "installed", lambda n: n != "openvino" and real(n))
    arguments = ("bench", "resnet18", "--image-size", 32, "--rounds", 2, "--turn-ms", 1)
    data = parsed(*arguments, "--against", "torch,openvino", "--threads", 2, "--batch", 2)
    assert [r["name"] for r in data["contenders"]] == ["npu_sim (cpu)", "torch", "torch"]
    assert data["contenders"][0]["sqnr_db"] > 40
    assert data["contenders"][1]["images_per_second"] > 0
    assert [a["name"] for a in data["absent"]] == ["openvino"]
    assert "pip install" in data["absent"][0]["reason"]
    assert (data["batch"], data["threads"]) == (2, 2)


DEMO = ("--models", "resnet18", "--image-size", 32, "--images", 2, "--rounds", 1)


@pytest.fixture
def quick_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws the weights and extracts the IR once for all tests of the demonstration."""
    from npu_sim.demo import case

    monkeypatch.setattr(case, "build_model", cached_model)
    monkeypatch.setattr(case, "extract", cached_ir)


@functools.cache
def cached_model(name: str, *, seed: int, image_size: int) -> Any:
    """A cached model."""
    return build_model(name, seed=seed, image_size=image_size)


@functools.cache
def cached_ir(model: Any, name: str, shape: tuple[int, ...]) -> Any:
    """A cached IR."""
    return extract(model, name, shape)


def test_demo(tmp_path: Path, quick_demo: None) -> None:
    data = parsed("demo", "-o", tmp_path, *DEMO, "--devices", "cpu,reference")
    assert data["agrees"] is True
    (model,) = data["models"]
    assert [d["device"] for d in model["devices"]] == ["cpu", "reference"]
    assert [d["images"] for d in model["devices"]] == [2, 1]
    assert all(d["sqnr_db"] > 35 for d in model["devices"])
    assert model["dispatches"] == 23
    assert model["arena_bytes"] >= model["arena_lower_bound_bytes"] > 0
    for key in ("compile_ms", "load_verify_ms", "extract_ms", "weights_ms"):
        assert model[key] > 0
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {
        "report.json",
        "resnet18.npubin",
        "resnet18.safetensors",
        "resnet18_ir.json",
        "resnet18_logits.npz",
        "resnet18_trace.json",
    }
    assert json.loads((tmp_path / "report.json").read_text()) == data


def test_demo_fails_where_a_device_disagrees(
    tmp_path: Path, quick_demo: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from npu_sim.demo import case

    real = case.compare
    monkeypatch.setattr(case, "compare", lambda want, got, dtype: real(want, -got, dtype))
    result = call("demo", "-o", tmp_path, *DEMO, "--devices", "cpu")
    assert result.exit_code == 1
    assert "DISAGREES" in result.stdout
    assert result.stderr.strip() == "npu-sim: error: a device disagrees with PyTorch"


def test_errors_are_one_line(files: Files, tmp_path: Path) -> None:
    program, weights, image = files.program, files.weights, f"x={files.image}"
    assert "nothing.json" in failed("compile", "nothing.json", "-o", tmp_path / "x.npubin")
    (tmp_path / "bad.json").write_text("{")
    failed("compile", tmp_path / "bad.json", "-o", tmp_path / "x.npubin")
    assert "float8" in failed(
        "compile", files.ir, "-o", tmp_path / "x.npubin", "--compute-dtype", "float8"
    )
    assert not (tmp_path / "x.npubin").exists()
    assert "small.safetensors" in failed("info", weights)
    assert "missing 'x'" in failed("run", program, "-w", weights)
    assert "unknown 'y'" in failed(
        "run", program, "-w", weights, "-i", image, "-i", f"y={files.image}"
    )
    assert "'abacus'" in failed("run", program, "-w", weights, "-i", image, "-d", "abacus")
    assert "not a safetensors file" in failed("run", program, "-w", program, "-i", image)
    assert "not a .npy file" in failed("run", program, "-w", weights, "-i", f"x={files.ir}")
    assert "none.npy" in failed("run", program, "-w", weights, "-i", "x=none.npy")
    damaged = tmp_path / "damaged.npubin"
    damaged.write_bytes(program.read_bytes()[:-1])
    assert "damaged.npubin" in failed("info", damaged)


def test_usage_errors_exit_with_2(files: Files) -> None:
    assert call("frobnicate").exit_code == 2
    assert call("info").exit_code == 2
    assert call("profile", files.program, "--iterations", "0").exit_code == 2
    assert "--weights" in failed("run", files.program, status=2)
    assert "NAME=FILE" in failed("run", files.program, "-w", files.weights, "-i", "x", status=2)
    assert "resnet18" in failed("bench", "alexnet", status=2)
    assert "tensorflow" in failed("bench", "resnet18", "--against", "tensorflow", status=2)
    assert "float8" in failed("bench", "resnet18", "--dtype", "float8", status=2)
    assert "peers" in failed("bench", files.program, "--against", "torch", status=2)
    assert "alexnet" in failed("demo", "--models", "alexnet", status=2)


def test_without_torch_the_message_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr("npu_sim.extras.installed", lambda name: False)
    assert "pip install npu-sim[torch]" in failed("demo", "-o", tmp_path)
    assert "pip install npu-sim[torch]" in failed("bench", "resnet18")


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPU_SIM_CACHE_DIR", str(tmp_path))
    program = small_net().program
    ProgramCache().get_or_compile(["small"], lambda: program)
    data = parsed("cache", "info")
    assert data["directory"] == str(tmp_path)
    assert data["programs"] == 1
    assert 0 < data["size_bytes"] < data["max_bytes"]
    assert (data["kernel_files"], data["kernel_bytes"]) == (0, 0)
    text = call("cache", "info").stdout
    assert str(tmp_path) in text
    kernels = tmp_path / "metal" / f"{'0' * 32}.archive"
    kernels.parent.mkdir()
    kernels.write_bytes(bytes(10))
    assert parsed("cache", "info")["kernel_bytes"] == 10
    removed = parsed("cache", "clear")
    assert (removed["removed_programs"], removed["removed_bytes"]) == (1, data["size_bytes"])
    assert (removed["removed_kernel_files"], removed["removed_kernel_bytes"]) == (1, 10)
    assert not kernels.exists()
    assert parsed("cache", "info")["programs"] == 0
    assert "0 programs" in call("cache", "clear").stdout
