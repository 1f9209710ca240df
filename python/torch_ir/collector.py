"""Pauses Python's cyclic garbage collector while many objects without cycles are made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused"]


@contextmanager
def collector_paused() -> Iterator[None]:
    """Leave garbage for later.

    A process that has just run torch.export holds millions of objects, which every full collection
    visits; making the objects of one IR sets off several and would take several times as long.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
