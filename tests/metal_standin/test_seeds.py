"""The documents' Metal code blocks run as written: MetalBackend() over the stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from npu_runtime import device as device_module
from tests.metal_standin.standin import VARIABLE, Standin
from tests.npu_sim import test_seed_dag


@pytest.fixture(autouse=True)
def _metal(standin: Standin, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(VARIABLE, str(standin.path))
    monkeypatch.setattr(device_module, "_opened", {})
    yield
    assert standin.messages("MTLCommandBuffer commit") > 0


def test_overview() -> None:
    test_seed_dag.test_overview(None)


def test_usage_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test_seed_dag.test_usage_guide(None, tmp_path, monkeypatch)
