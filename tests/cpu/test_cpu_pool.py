"""Pooling on the cpu device against PyTorch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.cpu.single_dispatch import place, run_kernel
from tests.reference.layouts import FLOATS, Array, Placed, assert_close, normal
from tests.tolerances import tolerance

TYPES = pytest.mark.parametrize("short", FLOATS)
SEEDS = pytest.mark.parametrize("seed", range(8), ids=lambda s: f"seed{s}")


def image(rng: np.random.Generator, seed: int, dtype: Any) -> tuple[Array, torch.Tensor]:
    """An image in some layout, and the same in float64."""
    shape = (1 + seed % 2, int(rng.choice([1, 5, 64])), *(int(v) for v in rng.integers(7, 13, 2)))
    x = normal(rng, shape, dtype)
    if seed % 2:
        laid_out = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    else:
        laid_out = place(rng, x)
    return laid_out, torch.from_numpy(x.astype(np.float64))


def windows(seed: int) -> tuple[dict[str, int], dict[str, Any]]:
    """A window as fields of the record and as PyTorch's arguments."""
    kernel, stride = ((3, 3), (2, 3), (2, 1))[seed % 3], ((2, 2), (1, 3))[seed % 2]
    pad = ((1, 1), (0, 1), (0, 0))[seed % 3]
    names = ("kh", "kw", "stride_h", "stride_w", "pad_h", "pad_w")
    fields = dict(zip(names, kernel + stride + pad, strict=True))
    return fields, {
        "kernel_size": kernel,
        "stride": stride,
        "padding": pad,
        "ceil_mode": seed % 4 == 3,
    }


@TYPES
@SEEDS
def test_max_pool2d_random(short: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, exact = image(rng, seed, FLOATS[short])
    fields, arguments = windows(seed)
    dilation = (1 + seed % 2, 1)
    want = F.max_pool2d(exact, dilation=dilation, **arguments).numpy()
    out = Placed(rng, want.shape, x.dtype)
    fields |= {"dilation_h": dilation[0], "dilation_w": dilation[1]}
    run_kernel("max_pool2d", {"x": x, "y": out.array}, fields)
    np.testing.assert_array_equal(out.array.astype(np.float64), want)
    out.assert_surroundings_untouched()


@TYPES
@SEEDS
def test_avg_pool2d_random(short: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, exact = image(rng, seed, FLOATS[short])
    fields, arguments = windows(seed)
    include, divisor = seed % 2 == 0, 5 if seed % 3 == 2 else None
    want = F.avg_pool2d(
        exact, count_include_pad=include, divisor_override=divisor, **arguments
    ).numpy()
    out = Placed(rng, want.shape, x.dtype)
    fields |= {"count_include_pad": int(include), "divisor_override": divisor or 0}
    run_kernel("avg_pool2d", {"x": x, "y": out.array}, fields)
    assert_close(out.array, want, *tolerance(x.dtype.name, fields["kh"] * fields["kw"]))
    out.assert_surroundings_untouched()


@TYPES
@SEEDS
def test_adaptive_avg_pool2d_random(short: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, exact = image(rng, seed, FLOATS[short])
    want = F.adaptive_avg_pool2d(exact, ((1, 1), (3, 5), (7, 2))[seed % 3]).numpy()
    out = Placed(rng, want.shape, x.dtype)
    run_kernel("adaptive_avg_pool2d", {"x": x, "y": out.array}, {})
    assert_close(out.array, want, *tolerance(x.dtype.name, x.shape[2] * x.shape[3]))
    out.assert_surroundings_untouched()


@TYPES
def test_max_pool2d_propagates_nan_and_infinity(short: str) -> None:
    x = np.full((1, 1, 1, 4), -np.inf, FLOATS[short])
    x[..., 3] = np.nan
    y = np.zeros((1, 1, 1, 2), x.dtype)
    fields = dict.fromkeys(("kh", "stride_h", "dilation_h", "dilation_w"), 1)
    fields |= {"kw": 2, "stride_w": 2, "pad_h": 0, "pad_w": 0}
    run_kernel("max_pool2d", {"x": x, "y": y}, fields)
    np.testing.assert_array_equal(y.ravel().astype(np.float64), [-np.inf, np.nan])
