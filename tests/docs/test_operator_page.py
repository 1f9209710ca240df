"""docs/operators.md is what the records say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_operator_page_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "tools" / "generate_operator_docs.py"), "--check"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
