"""softmax and reduce on the reference device: rows shorter and longer than a threadgroup."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.reduce import REDUCE_OPS
from tests.reference.layouts import FLOATS, Array, Placed, assert_close, normal, place
from tests.reference.native_library import run_kernel
from tests.tolerances import tolerance

SOFTMAX, REDUCE = KERNELS["softmax"], KERNELS["reduce"]
FLOAT_OPS = ("sum", "mean", "max", "min", "prod")
TYPES = pytest.mark.parametrize("short", SOFTMAX.types["T"])
ORDERS = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def softmax64(x: Array, log: bool) -> Array:
    values = torch.from_numpy(x.astype(np.float64))
    result: Array = (values.log_softmax(-1) if log else values.softmax(-1)).numpy()
    return result


@TYPES
@ORDERS
@pytest.mark.parametrize("log", [0, 1])
@pytest.mark.parametrize("k", [1, 31, 256, 1000])
def test_softmax(short: str, reverse: bool, log: int, k: int) -> None:
    rng = np.random.default_rng(k)
    x = (4 * normal(rng, (2, 3, 2, k), np.float32)).astype(FLOATS[short])
    x[rng.random(x.shape) < 0.1] = -np.inf
    x[0, 0, 0] = -np.inf  # masked entirely: NaN
    x[0, 1, 0, k // 2] = np.nan
    x[0, 2, 0, 0] = np.inf
    want = softmax64(x, bool(log))
    out = Placed(rng, x.shape, x.dtype)
    run_kernel(SOFTMAX, {"x": place(rng, x), "y": out.array}, {"log": log}, reverse=reverse)
    rtol, atol = tolerance(x.dtype.name, k + 1)
    # exp's relative error is the absolute error of its argument, a difference of values up to 32.
    assert_close(out.array, want, rtol + 32 * 2.0**-24, atol + 32 * 2.0**-24)
    out.assert_surroundings_untouched()


@TYPES
def test_softmax_in_place(short: str) -> None:
    rng = np.random.default_rng(1)
    x = normal(rng, (1, 2, 1, 700), FLOATS[short])
    want = softmax64(x, False)
    run_kernel(SOFTMAX, {"x": x, "y": x}, {"log": 0})
    assert_close(x, want, *tolerance(x.dtype.name, 700))


def reduce64(op: str, x: Array) -> Array:
    if x.shape[-1] * x.shape[-2] == 0:
        return np.full(x.shape[:3], {"sum": 0, "prod": 1}.get(op, np.nan), np.float64)
    function: Any = getattr(np, op)
    result: Array = function(x.astype(np.float64), axis=(-2, -1))
    return result


@TYPES
@ORDERS
@pytest.mark.parametrize("op", FLOAT_OPS)
@pytest.mark.parametrize("rows", [(1, 1), (3, 5), (300, 1), (1, 300), (40, 33), (2, 513)])
def test_reduce(short: str, reverse: bool, op: str, rows: tuple[int, int]) -> None:
    rng = np.random.default_rng(rows[0] + rows[1])
    x = normal(rng, (2, 3, 2, *rows), FLOATS[short])
    if op == "prod":
        # Around 1, so that long products neither vanish nor overflow.
        x = (1 + 0.01 * x.astype(np.float32)).astype(x.dtype)
    x[0, 0, 0, 0, 0] = np.nan
    x[0, 1, 0, 0, 0] = np.inf
    x[0, 2, 0, 0, 0] = -np.inf
    want = reduce64(op, x)
    out = Placed(rng, x.shape[:3], x.dtype)
    run_kernel(
        REDUCE, {"x": place(rng, x), "y": out.array}, {"op": REDUCE_OPS[op]}, reverse=reverse
    )
    count = rows[0] * rows[1]
    rtol, atol = tolerance(x.dtype.name, count)
    # Every factor of a product adds a relative error of one roundoff at most.
    rtol += count * 2.0**-24 if op == "prod" else 0
    assert_close(out.array, want, rtol, 0 if op in ("max", "min") else atol)
    out.assert_surroundings_untouched()


@pytest.mark.parametrize(("op", "want"), [("sum", 0), ("mean", np.nan), ("prod", 1)])
@pytest.mark.parametrize("rows", [(0, 4), (4, 0)])
def test_reduce_of_nothing(op: str, want: float, rows: tuple[int, int]) -> None:
    y = np.full((1, 1, 2), 5, np.float32)
    run_kernel(
        REDUCE, {"x": np.zeros((1, 1, 2, *rows), np.float32), "y": y}, {"op": REDUCE_OPS[op]}
    )
    np.testing.assert_array_equal(y.ravel(), [want, want])
