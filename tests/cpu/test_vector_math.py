"""exp, log, tanh and erf of the cpu device: error in units of the last place, special values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.cpu.elementwise_code import elementwise, load, op, store
from tests.cpu.single_dispatch import Array

# The bounds that cpp/cpu/vector_math.hpp states.
ULP = {"exp": 1.0, "log": 0.9, "tanh": 1.4, "erf": 1.3}


def run(name: str, x: Array) -> Array:
    y = np.zeros_like(x)
    elementwise([load(0, 0), op(f"{name}_f", 1, 0), store(0, 1)], [x], [y]).run_in_place()
    return y


def exact(name: str, x: Array) -> Array:
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        if name == "erf":
            return np.vectorize(math.erf)(wide)
        result: Array = getattr(np, name)(wide)
        return result


@pytest.mark.parametrize("name", ULP)
def test_error_random_seed0(name: str) -> None:
    """Every 20011th float32: a prime, so that all exponents and kinds of mantissa occur."""
    x = np.arange(0, 2**32, 20011, dtype=np.uint64).astype(np.uint32).view(np.float32)
    # More where the functions bend, and on both sides of where their formulas change.
    x = np.concatenate([x, np.linspace(-12, 12, 100_001, dtype=np.float32)])
    got, want = run(name, x), exact(name, x)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    with np.errstate(over="ignore"):
        rounded = want.astype(np.float32)
    finite = np.isfinite(rounded)
    overflow = ~finite & ~np.isnan(want)
    np.testing.assert_array_equal(got[overflow], rounded[overflow])
    # A value's last place, in its own binade.
    _, exponent = np.frexp(want[finite])
    place = np.ldexp(1.0, np.maximum(exponent - 24, -149))
    error = np.abs(got[finite].astype(np.float64) - want[finite]) / place
    assert error.max() <= ULP[name], f"{name}({x[finite][error.argmax()]!r})"


@pytest.mark.parametrize(
    ("name", "x", "want"),
    [
        ("exp", [0.0, -0.0, np.inf, -np.inf, 89.0, -104.0], [1, 1, np.inf, 0, np.inf, 0]),
        ("log", [0.0, -0.0, 1.0, np.inf], [-np.inf, -np.inf, 0, np.inf]),
        ("log", [-1.0, -np.inf, np.nan], [np.nan, np.nan, np.nan]),
        ("tanh", [np.inf, -np.inf, 20.0, -20.0], [1, -1, 1, -1]),
        ("erf", [np.inf, -np.inf, 5.0, -5.0], [1, -1, 1, -1]),
    ],
)  # fmt: skip
def test_special_values(name: str, x: list[float], want: list[float]) -> None:
    np.testing.assert_array_equal(run(name, np.array(x, np.float32)), np.array(want, np.float32))


@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_odd_functions_keep_the_sign_of_zero(name: str) -> None:
    np.testing.assert_array_equal(np.signbit(run(name, np.array([0.0, -0.0], "f4"))), [False, True])
