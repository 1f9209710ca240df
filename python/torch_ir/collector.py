"""Keeps Python's cyclic garbage collector from slowing down work that makes many objects."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused", "full_collections_postponed"]


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


@contextmanager
def full_collections_postponed() -> Iterator[None]:
    """Collect young garbage only.

    Tracing a large model makes cyclic garbage, so that the collector must go on; but full
    collections, which visit every object of the process over and over, are a tenth of the time.
    What is old is collected when the collector has counted anew, not at once.
    """
    youngest, middle, oldest = gc.get_threshold()
    gc.set_threshold(youngest, middle, max(oldest, 1_000_000))
    try:
        yield
    finally:
        if gc.get_freeze_count() == 0:
            # Sets the counters back; else the next object made would set off a full collection.
            gc.freeze()
            gc.unfreeze()
        gc.set_threshold(youngest, middle, oldest)
