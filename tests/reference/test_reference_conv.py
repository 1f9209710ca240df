"""conv2d and gemm on the reference device against float64, in both thread orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from npu_compiler.kernels import KERNELS
from tests.reference.activations import FUNCTIONS, NAMES, epilogue
from tests.reference.layouts import FLOATS, Array, Placed, assert_close, normal, place
from tests.reference.native_library import run_kernel
from tests.tolerances import tolerance

CONV2D, GEMM = KERNELS["conv2d"], KERNELS["gemm"]
NO_CLAMP = epilogue()
ORDERS = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def torch64(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array).astype(np.float64))


def check_conv(
    rng: np.random.Generator,
    dtype: Any,
    *,
    n: int,
    ic: int,
    oc: int,
    image: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    pad: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    bias: bool = True,
    residual: bool = False,
    activation: str = "none",
    clamp: tuple[float, float] = (-np.inf, np.inf),
    inplace: bool = False,
    reverse: bool = False,
) -> None:
    x = normal(rng, (n, ic * groups, *image), dtype)
    w = normal(rng, (oc * groups, *kernel, ic), dtype)
    b = normal(rng, (oc * groups,), np.float32) if bias else None
    want = F.conv2d(torch64(x), torch64(w).permute(0, 3, 1, 2), None, stride, pad, dilation, groups)
    out = Placed(rng, tuple(want.shape), dtype)
    r = normal(rng, tuple(want.shape), dtype) if residual else None
    if b is not None:
        want = want + torch64(b)[:, None, None]
    if r is not None:
        want = want + torch64(r)
        out.array[...] = r if inplace else out.array
    run_kernel(
        CONV2D,
        {
            "x": place(rng, x),
            "w": place(rng, w),
            "bias": None if b is None else place(rng, b),
            "residual": None if r is None else out.array if inplace else place(rng, r),
            "y": out.array,
        },
        {
            **{"stride_h": stride[0], "stride_w": stride[1]},
            **{"pad_top": pad[0], "pad_left": pad[1]},
            **{"dilation_h": dilation[0], "dilation_w": dilation[1]},
            **{"groups": groups, **epilogue(activation, clamp)},
        },
        reverse=reverse,
    )
    rtol, atol = tolerance(np.dtype(dtype).name, ic * kernel[0] * kernel[1] + 2)
    assert_close(out.array, FUNCTIONS[activation](want).clamp(*clamp).numpy(), rtol, atol)
    out.assert_surroundings_untouched()


@ORDERS
@pytest.mark.parametrize("short", CONV2D.types["T"])
@pytest.mark.parametrize("seed", range(8))
def test_conv2d_random(short: str, seed: int, reverse: bool) -> None:
    rng = np.random.default_rng(seed)
    pick = lambda *choices: choices[rng.integers(len(choices))]  # noqa: E731
    kernel = (pick(1, 2, 3, 5), pick(1, 3, 4))
    dilation = (pick(1, 1, 2), pick(1, 1, 3))
    least = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    check_conv(
        rng,
        FLOATS[short],
        n=pick(1, 2, 3),
        ic=pick(1, 3, 16, 17, 40),
        oc=pick(1, 5, 32, 33),
        image=(least[0] + int(rng.integers(0, 8)), least[1] + int(rng.integers(0, 8))),
        kernel=kernel,
        stride=(pick(1, 2, 3), pick(1, 2)),
        pad=(pick(0, 1, 2), pick(0, 1, 3)),
        dilation=dilation,
        groups=pick(1, 1, 2, 3),
        bias=bool(rng.integers(2)),
        residual=bool(rng.integers(2)),
        inplace=bool(rng.integers(2)),
        activation=NAMES[seed % len(NAMES)],
        clamp=pick((-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0)),
        reverse=reverse,
    )


def test_conv2d_depthwise() -> None:
    check_conv(
        *(np.random.default_rng(0), np.float16),
        **{"n": 2, "ic": 1, "oc": 1, "groups": 40, "image": (9, 7), "kernel": (3, 3)},
        pad=(1, 1),
    )


@pytest.mark.parametrize("short", CONV2D.types["T"])
def test_conv2d_keeps_nan_and_infinity(short: str) -> None:
    x = np.zeros((1, 1, 1, 4), FLOATS[short])
    x[0, 0, 0] = [np.nan, np.inf, -np.inf, 1]
    y = np.zeros_like(x)
    fields = {"stride_h": 1, "stride_w": 1, "pad_top": 0, "pad_left": 0, "groups": 1}
    fields |= {"dilation_h": 1, "dilation_w": 1, **epilogue(clamp=(0.0, np.inf))}
    run_kernel(CONV2D, {"x": x, "w": np.ones((1, 1, 1, 1), x.dtype), "y": y}, fields)
    np.testing.assert_array_equal(y.ravel().astype(np.float64), [np.nan, np.inf, 0, 1])


@ORDERS
@pytest.mark.parametrize("short", GEMM.types["T"])
@pytest.mark.parametrize("seed", range(8))
def test_gemm_random(short: str, seed: int, reverse: bool) -> None:
    rng = np.random.default_rng(100 + seed)
    dtype = FLOATS[short]
    b, m, n, k = (int(rng.integers(1, top)) for top in (4, 70, 70, 90))
    x, w = normal(rng, (b, m, k), dtype), normal(rng, (b, n, k), dtype)
    bias = normal(rng, (n,), np.float32) if seed % 2 else None
    residual = normal(rng, (b, m, n), dtype) if seed % 3 else None
    lo, hi = ((-np.inf, np.inf), (0.0, np.inf), (-1.0, 2.0))[seed % 3]
    want = np.einsum("bmk,bnk->bmn", x.astype(np.float64), w.astype(np.float64))
    want += 0 if bias is None else bias
    want += 0 if residual is None else residual.astype(np.float64)
    activation = NAMES[seed % len(NAMES)]
    want = FUNCTIONS[activation](torch.from_numpy(want)).numpy()
    out = Placed(rng, (b, m, n), dtype)
    placed = {name: None if a is None else place(rng, a) for name, a in
              (("x", x), ("w", w), ("bias", bias), ("residual", residual))}  # fmt: skip
    run_kernel(GEMM, {**placed, "y": out.array}, epilogue(activation, (lo, hi)), reverse=reverse)
    rtol, atol = tolerance(np.dtype(dtype).name, k + 2)
    assert_close(out.array, want.clip(lo, hi), rtol, atol)
    out.assert_surroundings_untouched()


def test_gemm_of_broadcast_weights() -> None:
    rng = np.random.default_rng(7)
    x, w = normal(rng, (3, 5, 20), np.float32), normal(rng, (1, 6, 20), np.float32)
    y = np.zeros((3, 5, 6), np.float32)
    run_kernel(GEMM, {"x": x, "w": np.broadcast_to(w, (3, 6, 20)), "y": y}, NO_CLAMP)
    assert_close(y, x.astype(np.float64) @ w[0].T.astype(np.float64), *tolerance("float32", 20))


def test_gemm_over_nothing_is_its_bias() -> None:
    bias = np.arange(3, dtype=np.float32)
    y = np.full((1, 2, 3), np.nan, np.float32)
    empty = {"x": np.zeros((1, 2, 0), np.float32), "w": np.zeros((1, 3, 0), np.float32)}
    run_kernel(GEMM, {**empty, "bias": bias, "y": y}, NO_CLAMP)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, y.shape))


@ORDERS
@pytest.mark.parametrize("name", NAMES)
def test_activations_match_pytorchs_in_float32(name: str, reverse: bool) -> None:
    """On values of every size, NaN and infinities."""
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, 88.0, -88.0, 105.0, -105.0, 1e30, -1e30]
    values = np.concatenate([np.linspace(-12, 12, 68), special]).astype(np.float32)
    values = values.reshape(1, 2, 40)
    y = np.zeros_like(values)
    operands = {"x": np.zeros((1, 2, 1), np.float32), "w": np.zeros((1, 40, 1), np.float32)}
    run_kernel(GEMM, {**operands, "residual": values, "y": y}, epilogue(name), reverse=reverse)
    want = FUNCTIONS[name](torch.from_numpy(values).double()).numpy()
    np.testing.assert_allclose(y, want, rtol=2e-6, atol=1e-6)
