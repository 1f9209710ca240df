"""softmax and reduce on the cpu device: along contiguous and strided axes, against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from npu_compiler.kernels.reduce import REDUCE_OPS
from tests.cpu.single_dispatch import place, run_kernel
from tests.reference.layouts import FLOATS, Array, Placed, assert_close, normal
from tests.tolerances import tolerance

FLOAT_OPS = ("sum", "mean", "max", "min", "prod")
TYPES = pytest.mark.parametrize("short", FLOATS)
ORDERS = pytest.mark.parametrize(
    "order", ["rows", "columns", "random-seed0", "random-seed1", "random-seed2"]
)


def laid_out(rng: np.random.Generator, values: Array, order: str) -> Array:
    """``values`` with their last axis contiguous, or strided beside a contiguous one, or anyhow."""
    if order == "rows":
        return np.ascontiguousarray(values)
    if order == "columns":
        # The axis before the reduced ones becomes the contiguous one.
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 2, -1)), -1, 2)
    return place(rng, values)


def seed_of(order: str) -> int:
    return int(order[-1]) if order[-1].isdigit() else 0


def softmax64(x: Array, log: int) -> Array:
    values = torch.from_numpy(x.astype(np.float64))
    result: Array = (values.log_softmax(-1) if log else values.softmax(-1)).numpy()
    return result


@TYPES
@ORDERS
@pytest.mark.parametrize("log", [0, 1])
@pytest.mark.parametrize("rows", [(2, 1, 3), (1, 2, 300)], ids=["few", "many"])
def test_softmax(short: str, order: str, log: int, rows: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed_of(order))
    x = (3 * normal(rng, (*rows, 77), np.float32)).astype(FLOATS[short])
    out = Placed(rng, x.shape, x.dtype)
    y = out.array if order != "columns" else laid_out(rng, np.zeros_like(x), order)
    run_kernel("softmax", {"x": laid_out(rng, x, order), "y": y}, {"log": log})
    rtol, atol = tolerance(x.dtype.name, 77)
    # exp's argument errs by a roundoff of its size, below 32: a relative error of the result.
    assert_close(y, softmax64(x, log), rtol + (0 if log else 32 * 2.0**-24), atol * 8)
    out.assert_surroundings_untouched()


@TYPES
@pytest.mark.parametrize("order", ["rows", "columns"])
@pytest.mark.parametrize("log", [0, 1])
def test_softmax_of_masked_and_invalid_rows(short: str, order: str, log: int) -> None:
    rng = np.random.default_rng(0)
    x = normal(rng, (1, 1, 16, 20), FLOATS[short])
    x[0, 0, 1] = -np.inf  # masked entirely: NaN
    x[0, 0, 2, 3:] = -np.inf
    x[0, 0, 3, 5] = np.nan
    x[0, 0, 4, 6] = np.inf
    x[0, 0, 5] = 1e4
    y = laid_out(rng, np.zeros_like(x), order)
    run_kernel("softmax", {"x": laid_out(rng, x, order), "y": y}, {"log": log})
    rtol, atol = tolerance(x.dtype.name, 20)
    assert_close(y, softmax64(x, log), rtol + 16 * 2.0**-24, atol)
    if not log:
        assert (y[0, 0, 2, 3:] == 0).all(), "a masked value has no weight at all"


@TYPES
@pytest.mark.parametrize("order", ["rows", "columns"])
def test_softmax_in_place_of_long_rows(short: str, order: str) -> None:
    rng = np.random.default_rng(1)
    x = laid_out(rng, normal(rng, (1, 1, 9, 9000), FLOATS[short]), order)
    want = softmax64(x, 0)
    run_kernel("softmax", {"x": x, "y": x}, {"log": 0})
    rtol, _ = tolerance(x.dtype.name)
    assert_close(x, want, rtol + 16 * 2.0**-24, tolerance(x.dtype.name)[1])


def reduce64(op: str, x: Array) -> Array:
    function: Any = getattr(np, op)
    result: Array = function(x.astype(np.float64), axis=(-2, -1))
    return result


@TYPES
@ORDERS
@pytest.mark.parametrize("op", FLOAT_OPS)
@pytest.mark.parametrize("reduced", [(1, 1), (7, 7), (3, 700)], ids=str)
def test_reduce(short: str, order: str, op: str, reduced: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed_of(order))
    x = normal(rng, (2, 2, 40, *reduced), FLOATS[short])
    if op == "prod":
        # Around 1, so that long products neither vanish nor overflow.
        x = (1 + 0.01 * x.astype(np.float32)).astype(x.dtype)
    out = Placed(rng, x.shape[:3], x.dtype)
    run_kernel("reduce", {"x": laid_out(rng, x, order), "y": out.array}, {"op": REDUCE_OPS[op]})
    count = reduced[0] * reduced[1]
    rtol, atol = tolerance(x.dtype.name, count)
    # Every factor of a product adds a relative error of one roundoff at most.
    rtol += count * 2.0**-24 if op == "prod" else 0
    assert_close(out.array, reduce64(op, x), rtol, 0 if op in ("max", "min") else atol)
    out.assert_surroundings_untouched()


@TYPES
@pytest.mark.parametrize("order", ["rows", "columns"])
@pytest.mark.parametrize("op", FLOAT_OPS)
def test_reduce_of_nan_and_infinity(short: str, order: str, op: str) -> None:
    rng = np.random.default_rng(0)
    x = np.ones((1, 1, 12, 1, 100), FLOATS[short])
    x[0, 0, 0, 0, 99] = np.nan
    x[0, 0, 1, 0, 3] = np.inf
    x[0, 0, 2, 0, 70] = -np.inf
    x[0, 0, 3, 0, 5], x[0, 0, 3, 0, 6] = np.inf, -np.inf
    x[0, 0, 4] = -np.inf
    y = np.zeros((1, 1, 12), x.dtype)
    run_kernel("reduce", {"x": laid_out(rng, x, order), "y": y}, {"op": REDUCE_OPS[op]})
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(y.astype(np.float64), reduce64(op, x))


@pytest.mark.parametrize(("op", "want"), [("sum", 0), ("mean", np.nan), ("prod", 1)])
@pytest.mark.parametrize("reduced", [(0, 4), (4, 0)], ids=str)
@pytest.mark.parametrize("kept", [2, 20])
def test_reduce_of_nothing(op: str, want: float, reduced: tuple[int, int], kept: int) -> None:
    y = np.full((1, 1, kept), 5, np.float32)
    x = np.zeros((1, 1, kept, *reduced), np.float32)
    run_kernel("reduce", {"x": x, "y": y}, {"op": REDUCE_OPS[op]})
    np.testing.assert_array_equal(y.ravel(), [want] * kept)
