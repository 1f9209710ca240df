"""Every kernel, operator and model on an NVIDIA GPU, and a selection under compute-sanitizer."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from npu_compiler.kernels import KERNELS
from tests.gpu import cases

ROOT = Path(__file__).resolve().parents[2]
_CUDA_FOLDERS = ("/usr/local/cuda/bin", "/opt/cuda/bin")
# The cases of the op records are run in so many tests.
OPERATOR_PARTS = 16


# What runs under compute-sanitizer together, and the kernels whose every schedule is among it.
SANITIZED = {
    "attention": ("attention,extremes", ("attention", "arg_reduce")),
    "products": ("products", ("linear", "expert_linear", "gemm", "conv2d")),
    "operators": ("kernels,operators", ()),
}


@pytest.mark.parametrize(
    "selection",
    [cases.kernels, cases.attention, cases.products, cases.extremes, cases.models],
    ids=lambda s: s.__name__,
)
def test_selection(selection: Callable[[], Iterator[cases.GpuCase]]) -> None:
    assert cases.run_all(selection())


@pytest.mark.parametrize("first", range(OPERATOR_PARTS))
def test_operators(first: int) -> None:
    assert cases.run_all(cases.operators(OPERATOR_PARTS, first))


def test_every_schedule_is_sanitized() -> None:
    assert {name for _, kernels in SANITIZED.values() for name in kernels} == {
        kernel.name for kernel in KERNELS.values() if kernel.schedules
    }


@pytest.mark.timeout(900)
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck"])
@pytest.mark.parametrize("part", SANITIZED)
def test_sanitizer(tool: str, part: str, tmp_path: Path) -> None:
    found = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path=":".join(_CUDA_FOLDERS)
    )
    if found is None:
        pytest.skip("compute-sanitizer is not installed; it comes with NVIDIA's CUDA toolkit")
    selections, kernels = SANITIZED[part]
    # What is run needs no PyTorch, whose own kernels are not what is checked.
    recorded = tmp_path / "cases.gz"
    with gzip.open(recorded, "wb", compresslevel=1) as file:
        for name in selections.split(","):
            made = cases.operators(step=10) if name == "operators" else cases.SELECTIONS[name]()
            cases.write(file, made)
    done = subprocess.run(
        [
            *(found, "--tool", tool, "--error-exitcode", "1"),
            *(sys.executable, "-m", "tests.gpu.cases", "--run", str(recorded), "--separate"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not cases.schedules_not_in(done.stdout, kernels)
