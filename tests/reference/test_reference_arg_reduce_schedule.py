"""Schedules of kernel arg_reduce: long rows, ties and NaN across threads and parts."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.reduce import ARG_OPS
from tests.reference.layouts import Array
from tests.reference.native_library import run_kernel
from tests.reference.test_reference_schedules import ORDERS, aligned

ARG_REDUCE = KERNELS["arg_reduce"]


def rows(dtype: str) -> Array:
    """Extremes twice in a row, in two parts; NaN in two parts; infinities, zeros of both signs; a
    last part of one element.
    """
    rng = np.random.default_rng(0)
    x = rng.integers(-50, 50, (1, 3, 3, 6145)).astype(np.float32)
    x[0, 0, 0, [2040, 2050, 6144]] = 99
    x[0, 0, 1, [4100, 4101, 4500]] = -99
    x[0, 1, 1, 6144] = 99
    x[0, 2, 2] = -abs(x[0, 2, 2])
    if dtype != "int32":
        x[0, 1, 0, [3000, 3001, 5000]] = np.nan
        x[0, 1, 2, 6144] = np.nan
        x[0, 2, 0] = -np.inf
        x[0, 2, 1, [7, 4099]] = np.inf
        x[0, 2, 2, [4000, 17]] = 0.0, -0.0
    return x.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


@ORDERS
@pytest.mark.parametrize(
    ("schedule", "dtype"),
    [("long", "float32"), ("long", "int32"), *(("wide", n) for n in ("float32", "bfloat16"))],
)
@pytest.mark.parametrize("op", ARG_OPS)
def test_finds_what_the_kernel_finds(op: str, schedule: str, dtype: str, reverse: bool) -> None:
    # Only rows that begin at multiples of 16 bytes can be read 16 bytes at a time.
    x = aligned(rows(dtype), 6152 if schedule == "wide" else 6145)
    found = []
    for name in ("", schedule):
        y, index = np.zeros(x.shape[:3], x.dtype), np.zeros(x.shape[:3], np.int64)
        operands = {"x": x, "y": y, "index": index}
        run_kernel(ARG_REDUCE, operands, {"op": ARG_OPS[op]}, reverse=reverse, schedule=name)
        found.append((y.astype(np.float64), index))
    assert np.array_equal(found[1][1], found[0][1])
    assert np.array_equal(found[1][0], found[0][0], equal_nan=True)
