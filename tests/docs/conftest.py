"""What all tests of the documentation have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.reports.check import one_thread


@pytest.fixture(autouse=True)
def compute_on_one_thread() -> Iterator[None]:
    """The models of the documentation are small."""
    with one_thread():
        yield
