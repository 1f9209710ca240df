"""Interleaved measurement: contenders take turns, so that a busy machine hits all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Statistics:
    """Latencies of one contender, in milliseconds."""

    samples: int
    median: float
    lower_quartile: float
    upper_quartile: float
    minimum: float

    @classmethod
    def of(cls, milliseconds: list[float]) -> Statistics:
        """Order statistics of at least one sample."""
        ordered = sorted(milliseconds)

        def at(share: float) -> float:
            position = share * (len(ordered) - 1)
            low = int(position)
            high = min(low + 1, len(ordered) - 1)
            return ordered[low] + (ordered[high] - ordered[low]) * (position - low)

        return cls(len(ordered), at(0.5), at(0.25), at(0.75), ordered[0])

    @property
    def spread(self) -> float:
        """Interquartile range."""
        return self.upper_quartile - self.lower_quartile

    def to_dict(self) -> dict[str, Any]:
        """Plain data, milliseconds."""
        return {
            "samples": self.samples,
            "median_ms": self.median,
            "iqr_ms": self.spread,
            "lower_quartile_ms": self.lower_quartile,
            "upper_quartile_ms": self.upper_quartile,
            "min_ms": self.minimum,
        }


def interleave(
    runs: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 12,
    turn_seconds: float = 0.1,
    warmup_seconds: float = 0.3,
    untimed: int = 2,
    on_turn: Callable[[], None] | None = None,
    before_turn: Mapping[str, Callable[[], object]] | None = None,
) -> dict[str, Statistics]:
    """Time callables in turns of about ``turn_seconds`` each, ``rounds`` times round.

    ``untimed`` calls open every turn: they wait out the spinning threads of the one before and
    warm the caches. The order is reversed every other round. ``on_turn`` is called after each
    turn (for a progress bar), ``before_turn[name]`` untimed before each of a callable's turns.
    """
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        end = time.perf_counter() + warmup_seconds
        run()
        while time.perf_counter() < end:
            run()
    names = list(runs)
    # A garbage collection in the middle of a run would be charged to whoever runs.
    enabled = gc.isenabled()
    gc.disable()
    # Between turns only what they left is looked at, not the libraries and models of everybody.
    gc.freeze()
    try:
        for turn in range(rounds):
            for name in names if turn % 2 == 0 else reversed(names):
                if before_turn is not None and name in before_turn:
                    before_turn[name]()
                samples[name] += _turn(runs[name], turn_seconds, untimed)
                if on_turn is not None:
                    on_turn()
            gc.collect()
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
    return {name: Statistics.of(times) for name, times in samples.items()}


def _turn(run: Callable[[], object], seconds: float, untimed: int) -> list[float]:
    for _ in range(untimed):
        run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        times.append((time.perf_counter() - begin) * 1e3)
    return times
