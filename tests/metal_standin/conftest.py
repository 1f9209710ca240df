"""The stand-in for tests: skipped where it cannot be built; whatever it finds fails a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from npu_runtime.device import Device
from tests.metal_standin.standin import Missing, Standin, load


@pytest.fixture(scope="session")
def loaded() -> Standin:
    try:
        return load()
    except Missing as reason:
        pytest.skip(f"Metal stand-in: {reason}")


@pytest.fixture
def standin(loaded: Standin) -> Iterator[Standin]:
    """As new, with nothing found before the test and nothing after it."""
    loaded.reset()
    loaded.take_findings()
    yield loaded
    loaded.reset()
    assert loaded.take_findings() == []


@pytest.fixture
def metal(standin: Standin) -> Device:
    """A Metal device of its own."""
    return standin.device()
