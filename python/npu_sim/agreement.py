"""How well a device's logits agree with PyTorch's."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[Any]

# Classes whose expected logits differ by less than this share of the logits' standard deviation
# count as tied: several times the rounding error of a ResNet in that dtype, and a small part of
# the usual distance between neighbours among the first ten of a thousand classes.
TIE = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.15}


@dataclass(frozen=True)
class Agreement:
    """Agreement over images: counts of images, signal to quantisation noise (dB), largest error.

    ``top5`` counts images whose five best classes are PyTorch's (ties as in TIE); ``top5_exact``
    without ties.
    """

    images: int
    top1: int
    top5: int
    top5_exact: int
    sqnr_db: float
    max_abs_error: float

    @property
    def agrees(self) -> bool:
        """Whether the first class and the first five are PyTorch's on every image."""
        return self.top1 == self.top5 == self.images and math.isfinite(self.max_abs_error)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; what is not finite is None, which JSON can say."""
        finite = {
            name: value if math.isfinite(value) else None for name, value in asdict(self).items()
        }
        return {**finite, "agrees": self.agrees}


def compare(expected: Logits, actual: Logits, dtype: str) -> Agreement:
    """Compare logits (images, classes); ``dtype`` is the compute dtype of ``actual``."""
    tie = TIE[dtype] * float(expected.std())
    top1 = top5 = exact = 0
    for want, got in zip(expected, actual, strict=True):
        best = np.argsort(-want, kind="stable")[:5]
        ours = np.argsort(-got, kind="stable")[:5]
        top1 += bool(want[ours[0]] >= want[best[0]] - tie)
        top5 += bool(want[ours].min() >= want[best[-1]] - tie)
        exact += set(best) == set(ours)
    error = np.abs(actual.astype(np.float64) - expected)
    return Agreement(
        len(expected), top1, top5, exact, sqnr_db(expected, actual), float(error.max())
    )


def sqnr_db(expected: Logits, actual: Logits) -> float:
    """Signal to quantisation noise in dB; inf for equal arrays, nan where not finite."""
    signal = np.asarray(expected, np.float64)
    noise = float(np.sum((np.asarray(actual, np.float64) - signal) ** 2))
    if noise == 0:
        return math.inf
    power = float(np.sum(signal**2))
    return 10 * math.log10(power / noise) if math.isfinite(noise) and power > 0 else math.nan
