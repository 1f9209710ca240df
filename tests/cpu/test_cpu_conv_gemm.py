"""conv2d and gemm on the cpu device: layouts, optional operands, prepared and passing weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.cpu.single_dispatch import SingleDispatch, place, run_kernel
from tests.reference.activations import FUNCTIONS, NAMES, epilogue
from tests.reference.layouts import FLOATS, Array, Placed, assert_close, normal
from tests.tolerances import tolerance

SEEDS = pytest.mark.parametrize("seed", range(12), ids=lambda s: f"seed{s}")
TYPES = pytest.mark.parametrize("short", FLOATS)
CLAMPS = ((-np.inf, np.inf), (0.0, np.inf), (-1.0, 2.0))


def torch64(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array).astype(np.float64))


def channels_last(array: Array, pad_to: int = 1) -> Array:
    """A copy with channels innermost, padded with zeros to a multiple of ``pad_to``."""
    n, c, h, w = array.shape
    whole = np.zeros((n, h, w, -(-c // pad_to) * pad_to), array.dtype)
    whole[..., :c] = array.transpose(0, 2, 3, 1)
    return whole.transpose(0, 3, 1, 2)[:, :c]


@TYPES
@SEEDS
def test_conv2d_random(short: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pick = lambda *choices: choices[rng.integers(len(choices))]  # noqa: E731
    dtype: Any = FLOATS[short]
    kh, kw = pick(1, 2, 3), pick(1, 3)
    stride, pad, dilation = (pick(1, 2), pick(1, 3)), (pick(0, 1), pick(0, 2)), (pick(1, 2), 1)
    groups, ic, oc = pick(1, 1, 3), pick(1, 7, 64), pick(1, 5, 64)
    x = normal(rng, (pick(1, 2), ic * groups, pick(6, 11), pick(5, 9)), dtype)
    w = normal(rng, (oc * groups, kh, kw, ic), dtype)
    want = F.conv2d(torch64(x), torch64(w).permute(0, 3, 1, 2), None, stride, pad, dilation, groups)
    bias = normal(rng, (oc * groups,), np.float32) if seed % 2 else None
    want = want if bias is None else want + torch64(bias)[:, None, None]
    residual = normal(rng, tuple(want.shape), dtype) if seed % 3 else None
    want = want if residual is None else want + torch64(residual)
    lo, hi = CLAMPS[seed % 3]
    activation = NAMES[seed % len(NAMES)]
    want = FUNCTIONS[activation](want)
    out = Placed(rng, tuple(want.shape), dtype)
    operands = {
        "x": channels_last(x, 64) if seed % 2 else place(rng, x),
        "w": w if seed % 4 < 2 else place(rng, w),
        "bias": None if bias is None else place(rng, bias),
        "residual": None if residual is None else place(rng, residual),
        "y": out.array,
    }
    fields = {
        **{"stride_h": stride[0], "stride_w": stride[1], "pad_top": pad[0], "pad_left": pad[1]},
        **{"dilation_h": dilation[0], "dilation_w": dilation[1], "groups": groups},
        **epilogue(activation, (lo, hi)),
    }
    run_kernel("conv2d", operands, fields, weights=("w", "bias") if seed % 2 else ())
    rtol, atol = tolerance(np.dtype(dtype).name, ic * kh * kw + 2)
    assert_close(out.array, want.clamp(lo, hi).numpy(), rtol, atol)
    out.assert_surroundings_untouched()


@TYPES
@SEEDS
def test_gemm_random(short: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dtype: Any = FLOATS[short]
    b = int(rng.integers(1, 4))
    m = int(rng.choice([1, 2, 19, 70]))
    n, k = (int(rng.integers(1, top)) for top in (150, 300))
    x, w = normal(rng, (b, m, k), dtype), normal(rng, (b, n, k), dtype)
    bias = normal(rng, (n,), np.float32) if seed % 2 else None
    residual = normal(rng, (b, m, n), dtype) if seed % 3 else None
    lo, hi = CLAMPS[seed % 3]
    want = np.einsum("bmk,bnk->bmn", x.astype(np.float64), w.astype(np.float64))
    want += 0 if bias is None else bias
    want += 0 if residual is None else residual.astype(np.float64)
    activation = NAMES[seed % len(NAMES)]
    want = FUNCTIONS[activation](torch.from_numpy(want)).numpy()
    out = Placed(rng, (b, m, n), dtype)
    operands = {
        "x": x if seed % 2 else place(rng, x),
        "w": w if seed % 4 < 2 else place(rng, w),
        "bias": None if bias is None else place(rng, bias),
        "residual": None if residual is None else place(rng, residual),
        "y": out.array,
    }
    weights = ("w",) if seed % 2 else ()
    run_kernel("gemm", operands, epilogue(activation, (lo, hi)), weights=weights)
    rtol, atol = tolerance(np.dtype(dtype).name, k + 2)
    assert_close(out.array, want.clip(lo, hi), rtol, atol)
    out.assert_surroundings_untouched()


@TYPES
@pytest.mark.parametrize("weights", [(), ("w",)], ids=["passing", "prepared"])
@pytest.mark.parametrize("m", [1, 40])
def test_gemm_broadcast_and_transposed_weights(
    short: str, weights: tuple[str, ...], m: int
) -> None:
    rng = np.random.default_rng(m)
    x, w = normal(rng, (3, m, 65), FLOATS[short]), normal(rng, (65, 33), FLOATS[short])
    y = np.zeros((3, m, 33), x.dtype)
    shared = np.broadcast_to(w.T, (3, 33, 65))
    fields = epilogue()
    run_kernel("gemm", {"x": x, "w": shared, "y": y}, fields, weights=weights)
    want = x.astype(np.float64) @ w.astype(np.float64)
    assert_close(y, want, *tolerance(x.dtype.name, 65))


@TYPES
def test_gemm_adds_into_its_residual(short: str) -> None:
    rng = np.random.default_rng(0)
    x, w = normal(rng, (1, 30, 64), FLOATS[short]), normal(rng, (1, 70, 64), FLOATS[short])
    y = normal(rng, (1, 30, 70), FLOATS[short])
    want = y.astype(np.float64) + x[0].astype(np.float64) @ w[0].astype(np.float64).T
    fields = epilogue()
    run_kernel("gemm", {"x": x, "w": w, "residual": y, "y": y}, fields, weights=("w",))
    assert_close(y, want, *tolerance(x.dtype.name, 65))


def test_gemm_without_terms_is_the_bias() -> None:
    y = np.zeros((1, 2, 3), np.float16)
    operands = {
        "x": np.zeros((1, 2, 0), np.float16),
        "w": np.zeros((1, 3, 0), np.float16),
        "bias": np.array([1, -2, 3], np.float32),
        "y": y,
    }
    run_kernel("gemm", operands, epilogue(clamp=(0.0, np.inf)))
    np.testing.assert_array_equal(y[0], [[1, 0, 3]] * 2)


@TYPES
@pytest.mark.parametrize("weights", [(), ("w",)], ids=["passing", "prepared"])
def test_conv2d_keeps_nan_and_infinity(short: str, weights: tuple[str, ...]) -> None:
    x = np.zeros((1, 1, 1, 4), FLOATS[short])
    x[0, 0, 0] = [np.nan, np.inf, -np.inf, 1]
    y = np.zeros_like(x)
    fields = {"stride_h": 1, "stride_w": 1, "pad_top": 0, "pad_left": 0, "groups": 1}
    fields |= {"dilation_h": 1, "dilation_w": 1, **epilogue(clamp=(0.0, np.inf))}
    operands = {"x": x, "w": np.ones((1, 1, 1, 1), x.dtype), "y": y}
    run_kernel("conv2d", operands, fields, weights=weights)
    np.testing.assert_array_equal(y.ravel().astype(np.float64), [np.nan, np.inf, 0, 1])


def test_passing_weights_may_change_between_runs() -> None:
    rng = np.random.default_rng(0)
    x, w = normal(rng, (1, 20, 30), np.float32), normal(rng, (1, 40, 30), np.float32)
    y = np.zeros((1, 20, 40), np.float32)
    fields = epilogue()
    dispatch = SingleDispatch("gemm", {"x": x, "w": w, "y": y}, fields)
    for _ in range(2):
        dispatch.run_in_place()
        assert_close(y[0], x[0].astype(np.float64) @ w[0].T, *tolerance("float32", 30))
        w *= -2


SPECIAL = [
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    -0.0,
    1e-30,
    -1e-30,
    88.0,
    -88.0,
    105.0,
    -105.0,
    1e30,
    -1e30,
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [1, 30])
def test_activations_match_pytorchs_in_float32(name: str, rows: int) -> None:
    """On values of every size, NaN and infinities, in rows that end anywhere."""
    spread = np.linspace(-12, 12, rows * 77 - len(SPECIAL))
    bias = np.zeros(77, np.float32)
    values = np.concatenate([spread, SPECIAL]).astype(np.float32).reshape(1, rows, 77)
    y = np.zeros_like(values)
    operands = {
        "x": np.zeros((1, rows, 3), np.float32),
        "w": np.zeros((1, 77, 3), np.float32),
        "bias": bias,
        "residual": values,
        "y": y,
    }
    run_kernel("gemm", operands, epilogue(name), weights=("w", "bias"))
    want = FUNCTIONS[name](torch.from_numpy(values).double()).numpy()
    np.testing.assert_allclose(y, want, rtol=2e-6, atol=1e-6)


@TYPES
@pytest.mark.parametrize("name", NAMES[1:])
@pytest.mark.parametrize("kind", ["winograd", "direct", "depthwise", "planes"])
def test_conv2d_activation_in_every_algorithm(short: str, name: str, kind: str) -> None:
    """Sums, bias and residual go through the activation before they are rounded."""
    rng = np.random.default_rng(NAMES.index(name))
    groups, channels = (40, 40) if kind == "depthwise" else (1, 40)
    side = 1 if kind == "direct" else 3
    x = normal(rng, (2, channels, 10, 9), FLOATS[short])
    w = normal(rng, (channels, side, side, channels // groups), FLOATS[short])
    bias = normal(rng, (channels,), np.float32)
    pad = side // 2
    want = F.conv2d(torch64(x), torch64(w).permute(0, 3, 1, 2), torch64(bias), 1, pad, 1, groups)
    residual = normal(rng, tuple(want.shape), FLOATS[short])
    want = FUNCTIONS[name](want + torch64(residual)).clamp(-0.5, 4)
    last = (lambda a: a) if kind == "planes" else channels_last
    y = last(np.zeros(tuple(want.shape), FLOATS[short]))
    fields = {"stride_h": 1, "stride_w": 1, "pad_top": pad, "pad_left": pad, "groups": groups}
    fields |= {"dilation_h": 1, "dilation_w": 1, **epilogue(name, (-0.5, 4.0))}
    operands = {"x": last(x), "w": w, "bias": bias, "residual": last(residual), "y": y}
    run_kernel("conv2d", operands, fields, weights=("w", "bias"))
    rtol, atol = tolerance(np.dtype(FLOATS[short]).name, channels * side * side + 2)
    assert_close(y, want.numpy(), rtol, atol)
