"""The code blocks of the seed documents that concern ResNet run as they are written.

torchvision cannot be imported beside every torch, so a stand-in with our ResNet takes its place;
random weights saved as safetensors stand in for the download.
"""

from __future__ import annotations

import functools
import re
import runpy
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from npu_sim.models import resnet18, trained_like
from tests.docs.documents import ROOT, code_blocks, install_torchvision

SEEDS = ROOT / "tests" / "seeds"


def blocks(document: str, *words: str) -> list[str]:
    """The Python blocks of a document that contain one of the words, in order."""
    found = code_blocks(SEEDS / document, "python")
    return [block for block in found if any(word in block for word in words)]


@functools.cache
def stand_in_model() -> torch.nn.Module:
    """What takes the place of the downloaded model."""
    return trained_like(resnet18(), 1, calibration_images=2, image_size=64)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the weights in it, and a torchvision whose resnet18 is ours."""
    model = stand_in_model()
    monkeypatch.chdir(tmp_path)
    save_file(model.state_dict(), "resnet18.safetensors")
    save_file(model.state_dict(), "model.safetensors")

    def stand_in(*, weights: str | None = None) -> torch.nn.Module:
        assert weights in (None, "default")
        return model

    default = types.SimpleNamespace(DEFAULT="default")
    install_torchvision(monkeypatch, resnet18=stand_in, ResNet18_Weights=default)
    return tmp_path


def run(sources: list[str], names: dict[str, Any]) -> dict[str, Any]:
    """Execute blocks one after another in one namespace."""
    for source in sources:
        exec(compile(source, "<document>", "exec"), names)
    return names


def check_logits(names: dict[str, Any], model: torch.nn.Module, array: np.ndarray) -> None:
    with torch.no_grad():
        expected = model(torch.from_numpy(array)).numpy()
    logits = next(names[n] for n in ("logits", "result") if n in names)
    assert logits.shape == expected.shape
    assert logits.dtype == np.float32
    error = np.linalg.norm(logits - expected) / np.linalg.norm(expected)
    # float16 through 20 layers: about 50 dB.
    assert error < 0.01


@pytest.mark.parametrize("document", ["usage-guide.md", "usage-guide.ko.md"])
def test_usage_guide(folder: Path, document: str, capsys: pytest.CaptureFixture[str]) -> None:
    resnet = blocks(document, "torchvision", "resnet18")
    assert len(resnet) == 2
    names = run(resnet, {})
    check_logits(names, names["model"], names["input_data"])
    # The profiling block speaks of the executor and weights above it.
    (profiling,) = blocks(document, "Profiler")
    names["inputs"] = {names["program"].input_specs[0].name: names["input_buf"]}
    run([profiling], names)
    assert "conv2d" in capsys.readouterr().out


def test_overview(folder: Path) -> None:
    model = stand_in_model()
    array = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    names: dict[str, Any] = {"model": model, "example_input": torch.from_numpy(array)}
    extract, compile_block, execute = blocks(
        "overview.md", "extract_ir", "npu_compiler.compile(", "Executor(program, device)"
    )
    run([extract], names)
    names["ir"].save("model_ir.json")
    names["input_data"] = array
    run([compile_block, execute], names)
    check_logits(names, model, array)


def test_the_example_runs_as_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / "resnet.py"))
    text = capsys.readouterr().out
    ours, theirs = (
        re.search(rf"^{word} +(\[.*\])$", text, re.MULTILINE).group(1)  # type: ignore[union-attr]
        for word in ("top 5", "PyTorch")
    )
    assert sorted(eval(ours)) == sorted(eval(theirs))
    assert "conv2d" in text
