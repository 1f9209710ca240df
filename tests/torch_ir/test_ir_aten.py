"""PyTorch's own operator samples through the IR; see aten_coverage for how, and for running all of
them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.torch_ir.operator_table import REASONS, countable_overloads, english, korean
from torch_ir.ir import GETITEM

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "torch-ir"


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
        if not any(allowed in reason for allowed in (*REASONS, "eager mode fails"))
    }
    assert surprising == {}
    covered = result["covered"]
    assert len(covered) >= 200
    assert sum(name.rpartition(".")[0].endswith("_") for name in covered) >= 20

    # The committed pages list all of these, and more.
    for page in ("operators.md", "operators.ko.md"):
        text = (PAGES / page).read_text(encoding="utf-8")
        rows = re.findall(r"^\| `([\w.]+)` \| (`.*`) \|$", text, re.MULTILINE)
        listed = {f"{base}.{name.strip('`')}" for base, names in rows for name in names.split(", ")}
        assert set(covered) - {GETITEM} <= listed, (
            "run python -m tests.torch_ir.aten_coverage --write"
        )


def test_the_page_of_operators() -> None:
    result = {
        "covered": ["aten.add.Tensor", "aten.add.Scalar", "aten.relu_.default"],
        "failures": {},
        "skipped": {
            "nonzero.[torch.float32]": "dimension 0 is dynamic (u0)",
            "nonzero.[torch.int64]": "dimension 0 is dynamic (u0)",
            "jit.x[torch.bool]": "eager mode fails: no GPU",
        },
    }
    text = english(result, ["float32"])
    assert "| `aten.add` | `Tensor`, `Scalar` |" in text
    assert "| `nonzero` | float32, int64 | the size of the result depends on values" in text
    assert "3 overloads pass, 0 fail" in text
    assert "1 samples that eager mode itself refuses" in text and "`jit.x`" not in text
    assert korean(result, ["float32"]).count("|") == text.count("|")


def test_nearly_every_overload_can_be_named() -> None:
    known, usable = countable_overloads()
    assert known > 2000 and known - usable < 5
