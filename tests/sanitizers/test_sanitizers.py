"""The native tests and a byte-by-byte attack on the program reader, built with sanitizers."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

import npu_compiler
from tests.native_build import native_program
from torch_ir import extract_ir

ENVIRONMENT = {
    **os.environ,
    # A damaged size may ask for terabytes: the allocator then says no instead of aborting.
    "ASAN_OPTIONS": "allocator_may_return_null=1:detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "NPU_SIM_NUM_THREADS": "2",
}


class TinyNet(nn.Module):
    """Few bytes of program, many kernels: conv, pools, gemm, softmax, reduce, elementwise."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.pool = nn.MaxPool2d(2, 1, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.pool(torch.relu(self.conv(x)))
        y = nn.functional.avg_pool2d(torch.tanh(y) * 0.5, 2)
        return torch.softmax(self.fc(y.mean((2, 3))), dim=1)


@pytest.fixture(scope="module")
def program_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flip") / "tiny.npubin"
    ir = extract_ir(TinyNet().eval(), torch.randn(1, 3, 6, 6), model_name="tiny")
    npu_compiler.compile(ir).save(path)
    return path


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return done.stdout


@pytest.mark.timeout(900)
def test_every_flipped_byte_is_refused_or_runs(program_file: Path) -> None:
    flip = native_program("npu_flip", sanitize=True)
    counts = json.loads(run(flip, program_file, "cpu", "reference"))
    assert counts["bytes"] == program_file.stat().st_size
    assert counts["stale_accepted"] == 0
    # Both occur: the attack reaches the rules behind the checksum and the kernels behind the rules.
    assert counts["repaired_refused"] > 0
    assert counts["repaired_ran"] > 0


@pytest.mark.timeout(900)
def test_cpu_kernels() -> None:
    assert " passed" in run(native_program("test_cpu_kernels", sanitize=True))
