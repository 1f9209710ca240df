"""Compares what a device computed with what PyTorch did: noise, largest error, range, NaN."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# What a node may add to the error of its operands, by storage dtype: signal to noise in dB, and the
# largest difference relative to the largest magnitude. One rounding gives 70 dB in float16, 53 dB
# in bfloat16, 149 dB in float32; BatchNorm folded into rounded weights, long sums and Winograd
# convolutions stay 20 dB above these limits. An operator that is wrong is far below them.
MIN_SQNR_DB = {"float32": 80.0, "float16": 35.0, "bfloat16": 20.0}
MAX_RELATIVE = {"float32": 2e-4, "float16": 0.05, "bfloat16": 0.2}
LARGEST_FLOAT16 = 65504.0


@dataclass(frozen=True)
class Difference:
    """How ``actual`` differs from ``expected``; ``None`` where nothing is finite.

    ``nonfinite`` counts elements that are NaN or infinite where PyTorch's are not, or another NaN
    or infinity; ``overflow`` those that are too large for float16.
    """

    sqnr_db: float
    max_abs_error: float
    max_abs: float
    nonfinite: int
    overflow: int
    mismatches: int = 0
    size: int = 0

    def exceeds(self, dtype: str, min_sqnr_db: float | None = None) -> bool:
        """Whether the difference is more than rounding to ``dtype`` explains."""
        if self.nonfinite:
            return True
        if dtype not in MIN_SQNR_DB:
            # A comparison that rounding turns is rare; a wrong kernel gets more than these wrong.
            return self.mismatches > self.size // 1000
        least = MIN_SQNR_DB[dtype] if min_sqnr_db is None else min_sqnr_db
        return self.sqnr_db < least or self.max_abs_error > MAX_RELATIVE[dtype] * self.max_abs


def difference(actual: Array, expected: Array, storage: str) -> Difference:
    """Compare a device's tensor, stored as ``storage``, with PyTorch's."""
    size = int(expected.size)
    if expected.dtype.kind in "biu" and actual.dtype.kind in "biu":
        wrong = int(np.count_nonzero(actual != expected))
        worst = _largest(actual.astype(np.float64) - expected.astype(np.float64))
        sqnr = math.inf if wrong == 0 else _sqnr(actual, expected)
        return Difference(sqnr, worst, _largest(expected), 0, 0, wrong, size)
    with np.errstate(all="ignore"):
        a, e = actual.astype(np.float64), expected.astype(np.float64)
        finite = np.isfinite(e)
        same = (a == e) | (np.isnan(a) & np.isnan(e))
        over = finite & (np.abs(e) > LARGEST_FLOAT16) & (storage == "float16")
        bad = ~same & ~(np.isfinite(a) & finite)
        both = np.isfinite(a) & finite
        return Difference(
            sqnr_db=_sqnr(a[both], e[both]),
            max_abs_error=_largest(a[both] - e[both]),
            max_abs=_largest(e[finite]),
            nonfinite=int(np.count_nonzero(bad)),
            overflow=int(np.count_nonzero(over)),
            mismatches=int(np.count_nonzero(~same)),
            size=size,
        )


def _largest(values: Array) -> float:
    return float(np.abs(values.astype(np.float64)).max()) if values.size else 0.0


def _sqnr(actual: Array, expected: Array) -> float:
    """Signal to noise in dB; inf where there is no noise, -inf where there is no signal."""
    signal = expected.astype(np.float64)
    noise = float(np.sum((actual.astype(np.float64) - signal) ** 2))
    power = float(np.sum(signal**2))
    if noise == 0:
        return math.inf
    return 10 * math.log10(power / noise) if power > 0 else -math.inf
