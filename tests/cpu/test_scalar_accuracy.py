"""Errors of the float functions of elementwise programs, on the cpu and the reference device, in
units of the last place of the exact value.
"""

from __future__ import annotations

import numpy as np
import pytest

from npu_compiler.kernels.scalar_ops import BY_NAME
from tests.cpu.elementwise_code import elementwise, load, op, store
from tests.cpu.single_dispatch import Array

# Largest errors found over 2^20 arguments, rounded up.
ULP = {
    **dict.fromkeys(("trunc_f", "floor_f", "ceil_f", "round_f", "fmod_f", "copysign_f"), 0.0),
    **dict.fromkeys(("round_f16", "round_bf16"), 0.0),
    "remainder_f": 0.5,
    "exp2_f": 1.5,
    "expm1_f": 2.0,
    "log1p_f": 2.0,
    "log2_f": 2.0,
    "log10_f": 2.5,
    "pow_f": 2.0,
    "hypot_f": 2.5,
    "sinh_f": 3.0,
    "cosh_f": 3.0,
    "asinh_f": 2.5,
    "acosh_f": 3.0,
    "atanh_f": 2.5,
    "erfc_f": 5.0,
    "sin_f": 2.5,
    "cos_f": 2.5,
    "tan_f": 4.5,
    "asin_f": 2.5,
    "acos_f": 2.0,
    "atan_f": 2.5,
    "atan2_f": 3.0,
}
COUNT = 3000


def samples(seed: int) -> Array:
    """Any bits, ordinary values, values near 1, and the special ones, in random order."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2**32, COUNT, dtype=np.uint64).astype(np.uint32).view(np.float32)
    ordinary = np.concatenate([3 * rng.standard_normal(COUNT), rng.uniform(-100, 100, COUNT)])
    near = 1 + 1e-3 * rng.standard_normal(COUNT)
    special = [0, -0.0, 1, -1, 0.5, -0.5, 1e-40, 3.4e38, np.inf, -np.inf, np.nan]
    rest = np.concatenate([ordinary, near, special]).astype(np.float32)
    found: Array = rng.permutation(np.concatenate([bits, rest]))
    return found


def arguments(name: str) -> list[Array]:
    found = [samples(seed) for seed in range(len(BY_NAME[name].args))]
    if name == "pow_f":
        found[0] = np.where(np.arange(found[0].size) % 4 == 0, found[0], np.abs(found[0]))
    return found


@pytest.mark.parametrize("kind", ["cpu", "reference"])
@pytest.mark.parametrize("name", ULP)
def test_error_random_seeds_0_and_1(name: str, kind: str) -> None:
    args = arguments(name)
    got = np.zeros(args[0].size, np.float32)
    code = [*(load(k, k) for k in range(len(args))), op(name, 9, *range(len(args))), store(0, 9)]
    elementwise(code, [a.copy() for a in args], [got], kind).run_in_place()
    python = BY_NAME[name].python
    want = np.array([python(*row) for row in zip(*(a.tolist() for a in args), strict=True)])
    with np.errstate(over="ignore"):
        rounded = want.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    infinite = np.isinf(rounded)
    np.testing.assert_array_equal(got[infinite], rounded[infinite])
    zero = rounded == 0
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(rounded[zero]))
    finite = np.isfinite(rounded)
    _, exponent = np.frexp(want[finite])
    place = np.ldexp(1.0, np.maximum(exponent - 24, -149))
    error = np.abs(got[finite].astype(np.float64) - want[finite]) / place
    worst = [float(a[finite][error.argmax()]) for a in args]
    assert error.max() <= ULP[name], f"{name}{tuple(worst)}"


@pytest.mark.parametrize("kind", ["cpu", "reference"])
@pytest.mark.parametrize("name", ["gelu_f", "gelu_tanh_f"])
def test_gelu_is_exact_in_its_tail(name: str, kind: str) -> None:
    """By way of 1 + erf(x) the result for -4 would be wrong in the third digit."""
    x = np.linspace(-5.9, 9, 20_001).astype(np.float32)
    got = np.zeros_like(x)
    elementwise([load(0, 0), op(name, 1, 0), store(0, 1)], [x.copy()], [got], kind).run_in_place()
    want = np.array([BY_NAME[name].python(v) for v in x.tolist()])
    error = np.abs(got - want) / np.abs(want)
    assert error[x > -2].max() < 7 * 2.0**-23
    assert error.max() < 40 * 2.0**-23
