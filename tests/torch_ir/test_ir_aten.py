"""PyTorch's own operator samples through the IR; see aten_coverage for how, and for running all of
them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

# Why a sample may be skipped: its result's shape, or its control flow, depends on values.
ALLOWED = (
    "is dynamic",
    "known only at run time",
    "is not supported; convert it to a dense tensor",
    "DataDependent",
    "DynamicOutputShape",
    "eager mode fails",
    "list index out of range",  # torch.export itself fails on in-place ops that add a dimension
)


def _run(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.torch_ir.aten_coverage", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.timeout(300)
def test_over_200_overloads_equal_eager() -> None:
    result = _run("--stride", "4")
    assert result["failures"] == {}
    surprising = {
        name: reason
        for name, reason in result["skipped"].items()
        if not any(allowed in reason for allowed in ALLOWED)
    }
    assert surprising == {}
    covered = result["covered"]
    assert len(covered) >= 200
    assert sum(name.rpartition(".")[0].endswith("_") for name in covered) >= 20
