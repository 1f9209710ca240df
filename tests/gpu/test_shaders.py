"""Every kernel, operator and model on an NVIDIA GPU, and a selection under compute-sanitizer."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.gpu import cases

ROOT = Path(__file__).resolve().parents[2]
_CUDA_FOLDERS = ("/usr/local/cuda/bin", "/opt/cuda/bin")
# The cases of the op records are run in so many tests.
OPERATOR_PARTS = 16


@pytest.mark.parametrize(
    "selection",
    [cases.kernels, cases.attention, cases.products, cases.models],
    ids=lambda s: s.__name__,
)
def test_selection(selection: Callable[[], Iterator[cases.GpuCase]]) -> None:
    assert cases.run_all(selection())


@pytest.mark.parametrize("first", range(OPERATOR_PARTS))
def test_operators(first: int) -> None:
    assert cases.run_all(cases.operators(OPERATOR_PARTS, first))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a selection of cases, to be run without PyTorch."""
    path = tmp_path_factory.mktemp("gpu") / "cases.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        cases.write(file, cases.kernels())
        cases.write(file, cases.attention())
        cases.write(file, cases.products())
        cases.write(file, cases.operators(step=10))
    return path


@pytest.mark.timeout(900)
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck"])
def test_sanitizer(tool: str, recorded: Path) -> None:
    found = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path=":".join(_CUDA_FOLDERS)
    )
    if found is None:
        pytest.skip("compute-sanitizer is not installed; it comes with NVIDIA's CUDA toolkit")
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
    assert not cases.schedules_not_in(done.stdout)
