"""What torch_ir does to the garbage collector is undone, also when tracing fails."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from torch_ir import ExportError, extract_ir
from torch_ir.collector import collector_paused, full_collections_postponed


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()
    gc.enable()


def test_extraction_collects_young_garbage_only() -> None:
    seen: list[tuple[bool, int]] = []

    class Model(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((gc.isenabled(), gc.get_threshold()[2]))
            return x + 1

    gc.set_threshold(600, 9, 8)
    extract_ir(Model().eval(), torch.ones(2))
    assert seen and set(seen) == {(True, 1_000_000)}
    assert gc.isenabled() and gc.get_threshold() == (600, 9, 8)
    assert gc.get_freeze_count() == 0

    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("broken")

    with pytest.raises(ExportError, match="broken"):
        extract_ir(Broken().eval(), torch.ones(2))
    assert gc.isenabled() and gc.get_threshold() == (600, 9, 8)


def test_garbage_of_cycles_is_collected_while_full_collections_wait() -> None:
    class Cycle:
        alive = 0

        def __init__(self) -> None:
            self.me = self
            Cycle.alive += 1

        def __del__(self) -> None:
            Cycle.alive -= 1

    with full_collections_postponed():
        for _ in range(20_000):
            Cycle()
        assert Cycle.alive < 15_000


def test_what_the_caller_has_frozen_stays_frozen() -> None:
    gc.freeze()
    with full_collections_postponed():
        pass
    assert gc.get_freeze_count() > 0


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    with collector_paused():
        pass
    assert not gc.isenabled()
