"""Agreement with PyTorch: ties, orders, noise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npu_sim.agreement import compare, sqnr_db


def logits(images: int = 4, classes: int = 100) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((images, classes)).astype(np.float32)


def test_equal_logits_agree() -> None:
    found = compare(logits(), logits(), "float16")
    assert found.agrees
    assert (found.top1, found.top5, found.top5_exact, found.images) == (4, 4, 4, 4)
    assert math.isinf(found.sqnr_db)
    assert found.to_dict()["sqnr_db"] is None


def test_noise_shows_in_the_ratio() -> None:
    expected = logits()
    noise = 0.001 * logits(4, 100)[::-1]
    assert sqnr_db(expected, expected + noise) == pytest.approx(60, abs=1)


def test_a_wrong_class_is_noticed() -> None:
    expected = logits()
    actual = expected.copy()
    actual[2, expected[2].argmin()] = expected[2].max() + 1
    found = compare(expected, actual, "float16")
    assert not found.agrees
    assert (found.top1, found.top5) == (3, 3)


def test_ties_count_only_within_their_distance() -> None:
    expected = np.tile(np.arange(100, 0, -1, dtype=np.float32), (1, 1))
    sigma = float(expected.std())
    for gap, agrees in ((0.01, True), (0.05, False)):
        near = expected.copy()
        near[0, 5] = near[0, 4] - gap * sigma
        swapped = near.copy()
        swapped[0, [4, 5]] = near[0, [5, 4]]
        found = compare(near, swapped, "float16")
        assert found.agrees is agrees
        assert found.top5_exact == 0


def test_nan_never_agrees() -> None:
    expected = logits()
    actual = expected.copy()
    actual[1, 3] = np.nan
    found = compare(expected, actual, "float16")
    assert not found.agrees
    data = found.to_dict()
    assert data["max_abs_error"] is data["sqnr_db"] is None
