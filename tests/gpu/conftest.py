"""Tests on an NVIDIA GPU are skipped, with the reason, where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gpu.driver import Missing, cuda
from tests.shaders import nvrtc


def _missing() -> str:
    """What this machine lacks; empty where it lacks nothing."""
    if nvrtc.nvrtc() is None:
        return nvrtc.MISSING
    try:
        cuda()
    except Missing as reason:
        return str(reason)
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = _missing()
    for item in items:
        if reason and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=f"NVIDIA GPU: {reason}"))
