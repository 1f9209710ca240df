"""PyTorch's own operator samples match on every device; see opinfo.py."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.docs.documents import ROOT


def test_operator_samples_of_pytorch() -> None:
    command = [sys.executable, "-m", "tests.fuzz.opinfo", "--samples", "4", "--stride", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["failures"] == {}
    assert len(found["passed"]) > 120
