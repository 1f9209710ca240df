"""Compiled programs of these tests stay out of the user's cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_compiler.cache import ENVIRONMENT_VARIABLE


@pytest.fixture(scope="session")
def program_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where programs of all tests of this run are kept: tests of one model share them."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, program_folder: Path) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(program_folder))
