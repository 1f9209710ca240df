"""Pooling on the reference device against PyTorch in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from npu_compiler.kernels import KERNELS
from tests.reference.layouts import FLOATS, Array, Placed, assert_close, normal, place
from tests.reference.native_library import run_kernel
from tests.tolerances import tolerance

MAX, AVG = KERNELS["max_pool2d"], KERNELS["avg_pool2d"]
ADAPTIVE = KERNELS["adaptive_avg_pool2d"]
SEEDS = pytest.mark.parametrize("seed", range(8))
TYPES = pytest.mark.parametrize("short", MAX.types["T"])


def torch64(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array).astype(np.float64))


def window(rng: np.random.Generator) -> dict[str, int]:
    kh, kw = (int(rng.integers(1, 5)) for _ in range(2))
    return {
        **{"kh": kh, "kw": kw},
        **{"stride_h": int(rng.integers(1, 4)), "stride_w": int(rng.integers(1, 4))},
        **{"pad_h": int(rng.integers(0, kh // 2 + 1)), "pad_w": int(rng.integers(0, kw // 2 + 1))},
    }


def torch_window(fields: dict[str, int]) -> tuple[tuple[int, int], ...]:
    return tuple((fields[f"{a}h"], fields[f"{a}w"]) for a in ("k", "stride_", "pad_"))


def image(rng: np.random.Generator, short: str) -> Array:
    shape = tuple(int(v) for v in rng.integers((1, 1, 9, 9), (4, 70, 14, 14)))
    return normal(rng, shape, FLOATS[short])


@TYPES
@SEEDS
def test_max_pool2d(short: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, fields = image(rng, short), window(rng)
    x[rng.random(x.shape) < 0.02] = np.nan
    x[rng.random(x.shape) < 0.1] = -np.inf
    dilation = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    kernel, stride, pad = torch_window(fields)
    want = F.max_pool2d(torch64(x), kernel, stride, pad, dilation, ceil_mode=seed % 2 == 1)
    out = Placed(rng, tuple(want.shape), x.dtype)
    fields |= {"dilation_h": dilation[0], "dilation_w": dilation[1]}
    run_kernel(MAX, {"x": place(rng, x), "y": out.array}, fields, reverse=seed % 2 == 0)
    np.testing.assert_array_equal(out.array.astype(np.float64), want.numpy())
    out.assert_surroundings_untouched()


def test_max_pool2d_of_only_padding_is_minus_infinity() -> None:
    y = np.zeros((1, 1, 1, 1), np.float32)
    fields = {"kh": 2, "kw": 2, "stride_h": 1, "stride_w": 1, "pad_h": 1, "pad_w": 1}
    fields |= {"dilation_h": 4, "dilation_w": 4}
    run_kernel(MAX, {"x": np.ones((1, 1, 2, 2), np.float32), "y": y}, fields)
    assert y.item() == -np.inf


@TYPES
@SEEDS
@pytest.mark.parametrize("include_pad", [0, 1])
def test_avg_pool2d(short: str, seed: int, include_pad: int) -> None:
    rng = np.random.default_rng(seed)
    x, fields = image(rng, short), window(rng)
    divisor = 7 if seed == 3 else 0
    kernel, stride, pad = torch_window(fields)
    want = F.avg_pool2d(
        *(torch64(x), kernel, stride, pad),
        ceil_mode=seed % 2 == 1,
        count_include_pad=bool(include_pad),
        divisor_override=divisor or None,
    )
    out = Placed(rng, tuple(want.shape), x.dtype)
    fields |= {"count_include_pad": include_pad, "divisor_override": divisor}
    run_kernel(AVG, {"x": place(rng, x), "y": out.array}, fields, reverse=seed % 2 == 0)
    assert_close(out.array, want.numpy(), *tolerance(x.dtype.name, kernel[0] * kernel[1]))
    out.assert_surroundings_untouched()


@TYPES
@SEEDS
def test_adaptive_avg_pool2d(short: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = image(rng, short)
    size = (1, 1) if seed == 0 else tuple(int(v) for v in rng.integers(1, 16, 2))
    want = F.adaptive_avg_pool2d(torch64(x), size)
    out = Placed(rng, tuple(want.shape), x.dtype)
    run_kernel(ADAPTIVE, {"x": place(rng, x), "y": out.array}, {}, reverse=seed % 2 == 0)
    assert_close(out.array, want.numpy(), *tolerance(x.dtype.name, x.shape[2] * x.shape[3]))
    out.assert_surroundings_untouched()


def test_windows_far_larger_than_the_image_end_soon() -> None:
    """A window's taps outside the image cost nothing, whatever the file says."""
    y = np.zeros((1, 1, 1, 1), np.float32)
    huge = 2**32 - 1
    fields = {"kh": huge, "kw": huge, "stride_h": huge, "stride_w": huge, "pad_h": 0, "pad_w": 0}
    x = np.ones((1, 1, 3, 3), np.float32)
    run_kernel(MAX, {"x": x, "y": y}, fields | {"dilation_h": 1, "dilation_w": 1})
    assert y.item() == 1
    run_kernel(AVG, {"x": x, "y": y}, fields | {"count_include_pad": 0, "divisor_override": 0})
    assert y.item() == 1
