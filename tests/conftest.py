"""pytest options of the comprehensive test, and the reports that they ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.reports import CheckResult


if "PYTEST_XDIST_WORKER" in os.environ:
    # The cores are shared with other test processes; set before PyTorch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("comprehensive test")
    group.addoption(
        "--generate-reports",
        action="store_true",
        help="write a Markdown report per test model and a summary",
    )
    group.addoption("--output", default="reports", metavar="DIR", help="where the reports go")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First what compiles for minutes, so that the run does not end waiting for it."""
    items.sort(key=lambda item: item.path.parent.name not in ("wheel", "sanitizers"))


@pytest.fixture(scope="session")
def model_results(request: pytest.FixtureRequest) -> Iterator[list[CheckResult]]:
    """Collect results of test models; they are reported at the end if that was asked for."""
    results: list[CheckResult] = []
    yield results
    if request.config.getoption("--generate-reports"):
        from tests.reports import write_reports

        write_reports(results, Path(request.config.getoption("--output")))
