"""The stand-in for tests: skipped where it cannot be built; whatever it finds fails a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from npu_runtime.device import Device
from tests.metal_standin.standin import Missing, Standin, load

# The first test of a run builds the stand-in, which takes minutes on a busy machine.
BUILD_SECONDS = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(BUILD_SECONDS))


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
