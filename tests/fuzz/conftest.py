"""Fuzzing runs small models: PyTorch computes them on one thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.npu_compiler.conftest import give_devices_back  # noqa: F401 (a fixture)
from tests.reports.check import one_thread


@pytest.fixture(autouse=True)
def compute_on_one_thread() -> Iterator[None]:
    """PyTorch's pool of threads takes longer to start than these tensors to compute."""
    with one_thread():
        yield
