"""Every compiler test verifies the graph after every pass; devices are given back at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ["NPU_COMPILER_CHECK"] = "1"


@pytest.fixture(scope="session", autouse=True)
def give_devices_back() -> Iterator[None]:
    """torch keeps frames of what it traced alive, and with them the modules that hold devices."""
    yield
    from npu_runtime import device
    from tests.npu_compiler import harness

    harness.opened.clear()
    device._opened.clear()
