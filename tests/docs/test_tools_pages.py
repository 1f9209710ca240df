"""The pages on ``npu-sim verify`` and ``torch.compile``: their code and commands run."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from npu_sim import dynamo_backend
from npu_sim.cli import app
from npu_sim.verification.measure import MIN_SQNR_DB
from tests.docs.documents import ROOT, code_blocks
from torch_ir import extract_ir

VERIFY, COMPILE = ROOT / "docs" / "verify.md", ROOT / "docs" / "torch-compile.md"


def run(page: Path) -> None:
    for number, block in enumerate(code_blocks(page, "python"), 1):
        exec(compile(block, f"<{page.name}, Python block {number}>", "exec"), {"__name__": "page"})


def test_verify(capsys: pytest.CaptureFixture[str]) -> None:
    run(VERIFY)
    assert "float16 beside PyTorch: no divergence" in capsys.readouterr().out
    text = VERIFY.read_text(encoding="utf-8")
    assert all(f"{limit:.0f} dB for {name}" in text for name, limit in MIN_SQNR_DB.items())


def test_verify_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU()).eval()
    extract_ir(model, torch.randn(1, 3)).save("model_ir.json")
    save_file(model.state_dict(), "model.safetensors")
    np.save("x.npy", np.ones((1, 3), np.float32))
    lines = [line for block in code_blocks(VERIFY, "bash") for line in block.splitlines()]
    assert len(lines) == 3
    for line in lines:
        done = CliRunner().invoke(app, shlex.split(line)[1:])
        assert done.exit_code == 0, done.output


def test_torch_compile() -> None:
    dynamo_backend.register()
    torch._dynamo.reset()
    run(COMPILE)
    torch._dynamo.reset()
    text = COMPILE.read_text(encoding="utf-8")
    assert all(f"| `{option}` |" in text for option in dynamo_backend.OPTIONS)
