"""The dialect's own scalar functions: erf and the conversions to and from half formats."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.reference.native_library import library, pointer

HALVES: dict[str, Any] = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def call_erf(x: NDArray[np.float32]) -> NDArray[np.float32]:
    y = np.zeros_like(x)
    library().npu_test_erf(pointer(x), pointer(y), x.size)
    return y


def test_erf_is_within_2_ulp() -> None:
    near = np.linspace(-4.2, 4.2, 200_001, dtype=np.float32)
    far = np.geomspace(1e-38, 1e38, 2_001).astype(np.float32)
    x = np.concatenate([near, far, -far])
    want = np.array([math.erf(v) for v in x.tolist()])
    step = np.spacing(np.abs(want).astype(np.float32)).astype(np.float64)
    assert (np.abs(call_erf(x) - want) / step).max() <= 2


def test_erf_of_special_values() -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], np.float32)
    y = call_erf(x)
    np.testing.assert_array_equal(y, [0, 0, 1, -1, np.nan])
    np.testing.assert_array_equal(np.signbit(y[:4]), [False, True, False, True])


@pytest.mark.parametrize("name", HALVES)
def test_widen_every_value(name: str) -> None:
    bits = np.arange(65536, dtype=np.uint16)
    wide = np.zeros(65536, np.float32)
    library().npu_test_widen(pointer(bits), pointer(wide), bits.size, int(name == "bfloat16"))
    want = bits.view(HALVES[name]).astype(np.float32)
    np.testing.assert_array_equal(wide, want)
    np.testing.assert_array_equal(np.signbit(wide), np.signbit(want))


@pytest.mark.parametrize("name", HALVES)
def test_narrow_rounds_to_nearest_even(name: str) -> None:
    """Every half value, every tie between neighbours, and their float32 neighbours."""
    bits = np.arange(65536, dtype=np.uint16)
    exact = bits.view(HALVES[name]).astype(np.float32)
    exact = np.sort(exact[np.isfinite(exact)])
    ties = ((exact[1:].astype(np.float64) + exact[:-1]) / 2).astype(np.float32)
    x = np.concatenate([exact, ties, [65519.9, 65520, 3.4e38, np.inf, -np.inf, np.nan, 1e-45]])
    x = x.astype(np.float32)
    x = np.concatenate(
        [x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, -np.float32(np.inf))]
    )
    narrow = np.zeros(x.size, np.uint16)
    library().npu_test_narrow(pointer(x), pointer(narrow), x.size, int(name == "bfloat16"))
    with np.errstate(over="ignore"):
        want = x.astype(HALVES[name])
    np.testing.assert_array_equal(
        narrow.view(HALVES[name]).astype(np.float32), want.astype(np.float32)
    )
