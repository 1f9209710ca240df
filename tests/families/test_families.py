"""Every family extracts, survives JSON, validates and gives eager's numbers.

`make test` runs a small subset spread over the kinds; `make families` runs them all by setting
NPU_SIM_ALL_FAMILIES=1.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from .check import BLOCKED, PASSED, SKIPPED, Result, run_family
from .family import Family
from .records import FAMILIES
from .table import markdown

ALL = os.environ.get("NPU_SIM_ALL_FAMILIES", "0") == "1"
PAGE = Path(__file__).parents[2] / "docs" / "torch-ir" / "models.md"
CHOSEN = [family for family in FAMILIES if ALL or family.fast]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The models are too small for several threads, which only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("family", CHOSEN, ids=lambda family: family.name)
def test_family(family: Family) -> None:
    result = run_family(family)
    if result.status == SKIPPED:
        pytest.skip(result.detail)
    expected = BLOCKED if family.blocked else PASSED
    assert result.status == expected, f"{result.status}: {result.detail}"


def test_the_list_covers_every_kind() -> None:
    names = [family.name for family in FAMILIES]
    assert len(names) == len(set(names))
    extractable = Counter(family.kind for family in FAMILIES if family.blocked is None)
    assert extractable["cnn"] >= 10
    assert extractable.total() - extractable["cnn"] >= 30
    kinds = {"encoder", "decoder", "encoder-decoder", "vision", "audio", "moe", "state-space"}
    assert all(extractable[kind] >= 3 for kind in kinds)
    assert {family.kind for family in FAMILIES if family.fast} >= kinds | {"cnn"}


def test_a_family_that_differs_from_eager_fails() -> None:
    """The check compares: a model whose results change from call to call does not pass."""
    calls = itertools.count()

    class Counting(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + next(calls)

    family = Family("counting", "cnn", "Counting", lambda: (Counting(), (torch.ones(2),)))
    result = run_family(family)
    assert result.status == "FAILED"
    assert result.max_diff == 1


def test_a_blocked_family_needs_its_reason_in_the_error() -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.sum() > 0 else x

    def run(blocked: tuple[str, str] | None) -> Result:
        made = (Branching(), (torch.ones(2),))
        return run_family(Family("b", "cnn", "Branching", lambda: made, blocked=blocked))

    assert run(("data-dependent", "it branches")).status == BLOCKED
    assert run(("something else", "it branches")).status == "FAILED"
    assert run(None).status == "FAILED"


def test_the_page_lists_every_result() -> None:
    results = [
        Result("A", "cnn", "a", PASSED, nodes=10, operators=3, parameters=1234, npu_unsupported=4),
        Result("B", "vision", "B", BLOCKED, "its shapes depend on data"),
    ]
    page = markdown(results)
    assert "| A | cnn | `a` | 10 | 3 | 1,234 | exact | 6/10 |" in page
    assert "* B: its shapes depend on data" in page
    assert "| all | 2 | 1 |" in page


def test_the_committed_page_lists_these_families() -> None:
    rows = re.findall(r"^\| (.+?) \| .+? \| `(\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert rows == [(family.name, family.model) for family in FAMILIES], "run `make families`"
