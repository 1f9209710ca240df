"""Schedule long of kernel arg_reduce: few and long rows, ties and NaN across its parts."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.reduce import ARG_OPS
from tests.reference.layouts import Array
from tests.reference.native_library import run_kernel
from tests.reference.test_reference_schedules import ORDERS

ARG_REDUCE = KERNELS["arg_reduce"]


def rows(dtype: str) -> Array:
    """Extremes twice in a row, in two parts; NaN in two parts; a last part of one element."""
    rng = np.random.default_rng(0)
    x = rng.integers(-50, 50, (1, 2, 3, 6145)).astype(np.float32)
    x[0, 0, 0, [2040, 2050, 6144]] = 99
    x[0, 0, 1, [4100, 4500]] = -99
    if dtype != "int32":
        x[0, 1, 0, [3000, 5000]] = np.nan
    x[0, 1, 1, 6144] = 99
    return x.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


@ORDERS
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
@pytest.mark.parametrize("op", ARG_OPS)
def test_finds_what_the_kernel_finds(op: str, dtype: str, reverse: bool) -> None:
    x = rows(dtype)
    found = {}
    for schedule in ("", "long"):
        y, index = np.zeros(x.shape[:3], x.dtype), np.zeros(x.shape[:3], np.int64)
        operands = {"x": x, "y": y, "index": index}
        run_kernel(ARG_REDUCE, operands, {"op": ARG_OPS[op]}, reverse=reverse, schedule=schedule)
        found[schedule] = y.astype(np.float64), index
    assert np.array_equal(found["long"][1], found[""][1])
    assert np.array_equal(found["long"][0], found[""][0], equal_nan=True)
