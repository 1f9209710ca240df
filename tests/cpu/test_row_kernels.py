"""Norms, variances, extremes, scans, sorts and masked softmax on the cpu and the reference device,
in both thread orders, over arrays of any strides with poison around them, against float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.reduce import ARG_OPS, REDUCE_OPS
from npu_compiler.kernels.scan import SCAN_OPS
from npu_runtime.errors import ProgramError
from tests.cpu.single_dispatch import place, run_kernel
from tests.reference import native_library
from tests.reference.layouts import FLOATS, Array, Placed, assert_close, normal
from tests.tolerances import tolerance

Run = Callable[..., None]
INTEGERS: dict[str, Any] = {
    "i64": np.int64,
    "i32": np.int32,
    "i16": np.int16,
    "i8": np.int8,
    "u8": np.uint8,
    "b8": np.bool_,
}
# Every class of dtypes that kernels treat alike.
SOME = [*FLOATS, "i64", "u8", "b8"]


def _cpu(kernel: str, operands: Mapping[str, Array | None], fields: Mapping[str, Any]) -> None:
    run_kernel(kernel, operands, fields)


def _reference(reverse: bool) -> Run:
    def run(kernel: str, operands: Mapping[str, Array | None], fields: Mapping[str, Any]) -> None:
        native_library.run_kernel(KERNELS[kernel], operands, fields, reverse=reverse)

    return run


DEVICES = pytest.mark.parametrize(
    "run", [_cpu, _reference(False), _reference(True)], ids=["cpu", "forward", "reverse"]
)
TYPES = pytest.mark.parametrize("short", FLOATS)
SEEDS = pytest.mark.parametrize("seed", range(3))


def laid_out(rng: np.random.Generator, x: Array, seed: int) -> Array:
    """Dense rows, dense columns (the axis before the last outermost of all), or anyhow."""
    if seed == 0:
        return np.ascontiguousarray(x)
    if seed == 1:
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 2, -1)), -1, 2)
    return place(rng, x)


def integers(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    if dtype is np.bool_:
        return rng.random(shape) < 0.5
    low = 0 if dtype is np.uint8 else -9
    return rng.integers(low, 10, shape).astype(dtype)


def with_specials(rng: np.random.Generator, x: Array, share: float = 0.1) -> Array:
    """Some NaN, infinities and zeros of both signs among the values."""
    for value in (np.nan, np.inf, -np.inf, 0.0, -0.0):
        x[rng.random(x.shape) < share / 5] = value
    return x


def torch_of(x: Array) -> torch.Tensor:
    """Floats as float64, integers as they are."""
    plain = np.ascontiguousarray(x)
    return torch.from_numpy(plain if plain.dtype.kind in "iub" else plain.astype(np.float64))


# Norms.


def row_norm64(
    x: Array, w: Array | None, b: Array | None, residual: Array | None, eps: float, rms: int
) -> tuple[Array, Array]:
    h = x.astype(np.float64)
    if residual is not None:
        h = (x.astype(np.float32) + residual.astype(np.float32)).astype(x.dtype).astype(np.float64)
    mean = 0 if rms else h.mean((2, 3), keepdims=True)
    variance = ((h - mean) ** 2).mean((2, 3), keepdims=True)
    y = (h - mean) / np.sqrt(variance + eps)
    y = y if w is None else y * w.astype(np.float64)
    return h, y if b is None else y + b.astype(np.float64)


@DEVICES
@TYPES
@SEEDS
@pytest.mark.parametrize("rms", [0, 1])
@pytest.mark.parametrize(
    "shape", [(2, 3, 1, 7), (1, 4, 5, 33), (2, 8, 10, 12), (1, 2, 1, 3000)], ids=str
)
def test_row_norm(run: Run, short: str, seed: int, rms: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    dtype = FLOATS[short]
    x = (normal(rng, shape, np.float32) + 3).astype(dtype)
    # Weights along the elements, along the rows (as of groups), or none; of a dtype of their own.
    w = normal(rng, ((1, 1, *shape[2:]), (1, *shape[1:3], 1), (1, 1, 1, 1))[seed], np.float32)
    b = normal(rng, w.shape, dtype) if seed < 2 else None
    residual = normal(rng, shape, dtype) if seed else None
    out, total = Placed(rng, shape, dtype), Placed(rng, shape, dtype)
    run(
        "row_norm",
        {
            "x": laid_out(rng, x, seed),
            "w": np.broadcast_to(w, shape),
            "bias": None if b is None else np.broadcast_to(b, shape),
            "residual": None if residual is None else laid_out(rng, residual, seed),
            "y": out.array,
            "sum": total.array if seed else None,
        },
        {"eps": 1e-5, "rms": rms},
    )
    h, want = row_norm64(x, w, b, residual, 1e-5, rms)
    rtol, atol = tolerance(np.dtype(dtype).name, shape[2] * shape[3])
    # The mean, near 3, is subtracted: errors are relative to it.
    assert_close(out.array, want, rtol, atol + 64 * 2.0**-24)
    out.assert_surroundings_untouched()
    if seed:
        np.testing.assert_array_equal(total.array.astype(np.float64), h)
        total.assert_surroundings_untouched()


@DEVICES
@TYPES
@pytest.mark.parametrize("groups", [1, 5])
@pytest.mark.parametrize(("images", "pixels"), [(2, 30), (1, 700)], ids=str)
def test_row_norm_of_channels_last_images(
    run: Run, short: str, groups: int, images: int, pixels: int
) -> None:
    """Group and instance norm where channels are dense: groups of neighbouring rows. A large image
    is cut into parts."""
    rng = np.random.default_rng(groups)
    channels = 40
    pixel_major = normal(rng, (images, pixels, 64), FLOATS[short])
    shape = (images, channels // groups, groups, pixels)

    def grouped(block: Array) -> Array:
        parts = block[:, :, :channels].reshape(images, pixels, channels // groups, groups)
        return parts.transpose(0, 2, 3, 1)

    w, b = normal(rng, (channels,), np.float32), normal(rng, (channels,), np.float32)

    def per_channel(values: Array) -> Array:
        parts = values.reshape(1, channels // groups, groups, 1)
        return np.broadcast_to(parts, shape)

    y = np.zeros_like(pixel_major)
    run(
        "row_norm",
        {"x": grouped(pixel_major), "w": per_channel(w), "bias": per_channel(b), "y": grouped(y)},
        {"eps": 1e-3, "rms": 0},
    )
    _, want = row_norm64(grouped(pixel_major), per_channel(w), per_channel(b), None, 1e-3, 0)
    rtol, atol = tolerance(np.dtype(FLOATS[short]).name, groups * pixels)
    assert_close(grouped(y), want, rtol, atol)
    assert (y[:, :, channels:] == 0).all(), "padded channels were written"


@DEVICES
@TYPES
def test_row_norm_in_place(run: Run, short: str) -> None:
    rng = np.random.default_rng(0)
    x = normal(rng, (1, 3, 1, 500), FLOATS[short])
    _, want = row_norm64(x, None, None, None, 1e-5, 0)
    run("row_norm", {"x": x, "y": x}, {"eps": 1e-5, "rms": 0})
    assert_close(x, want, *tolerance(x.dtype.name, 500))


# Reductions beyond sums and extremes of floats.

NORMS = {"norm_0": 0, "norm_1": 1, "norm_2": 2, "norm_inf": np.inf, "norm_neg_inf": -np.inf}


@DEVICES
@TYPES
@SEEDS
@pytest.mark.parametrize("op", [*NORMS, "logsumexp"])
def test_norms_and_logsumexp(run: Run, short: str, seed: int, op: str) -> None:
    rng = np.random.default_rng(seed)
    x = normal(rng, (2, 2, 20, 3, 90), FLOATS[short])
    x[0, 0, 0, 0, 0], x[0, 0, 1, 0, 0], x[0, 0, 2] = np.nan, np.inf, -np.inf
    values = torch_of(x).flatten(-2)
    want = (
        torch.logsumexp(values, -1)
        if op == "logsumexp"
        else torch.linalg.vector_norm(values, NORMS[op], -1)
    )
    out = Placed(rng, x.shape[:3], np.float32)
    run("reduce", {"x": laid_out(rng, x, seed), "y": out.array}, {"op": REDUCE_OPS[op]})
    assert_close(out.array, want.numpy(), 32 * 2.0**-24, 32 * 2.0**-24)
    out.assert_surroundings_untouched()


@DEVICES
@SEEDS
@pytest.mark.parametrize("short", INTEGERS)
@pytest.mark.parametrize("op", ["sum", "prod", "max", "min", "any", "all", "count_nonzero"])
def test_exact_reductions(run: Run, short: str, seed: int, op: str) -> None:
    rng = np.random.default_rng(seed)
    x = integers(rng, (2, 1, 30, 2, 41), INTEGERS[short])
    if short == "i64":
        x = x * (2**40 + 1)
    wide = x.astype(np.int64)
    function: Any = np.count_nonzero if op == "count_nonzero" else getattr(np, op)
    with np.errstate(over="ignore"):
        want = function(wide, axis=(3, 4))
    out = Placed(rng, x.shape[:3], np.bool_ if op in ("any", "all") else np.int64)
    run("reduce", {"x": laid_out(rng, x, seed), "y": out.array}, {"op": REDUCE_OPS[op]})
    np.testing.assert_array_equal(out.array, want)
    out.assert_surroundings_untouched()


@DEVICES
@pytest.mark.parametrize("op", ["any", "all", "count_nonzero"])
@TYPES
def test_truth_of_floats(run: Run, short: str, op: str) -> None:
    x = np.array([[0, -0.0, 0], [np.nan, 0, 1], [1, np.inf, -1]]).astype(FLOATS[short])
    y = np.zeros((1, 1, 3), np.int64)
    run("reduce", {"x": x.reshape(1, 1, 3, 1, 3), "y": y}, {"op": REDUCE_OPS[op]})
    want = {"any": [0, 1, 1], "all": [0, 0, 1], "count_nonzero": [0, 2, 3]}[op]
    np.testing.assert_array_equal(y.ravel(), want)


@pytest.mark.parametrize("op", ["sum", "max", "norm_2", "mean"])
@pytest.mark.parametrize("strided", [False, True])
def test_long_rows_are_cut_into_parts(op: str, strided: bool) -> None:
    rng = np.random.default_rng(0)
    x = normal(rng, (1, 1, 1 + 15 * strided, 7, 40_001), np.float32)
    if strided:
        x = laid_out(rng, x, 1)
    y = np.zeros(x.shape[:3], np.float32)
    _cpu("reduce", {"x": x, "y": y}, {"op": REDUCE_OPS[op]})
    values = torch_of(x).flatten(-2)
    want = {
        "sum": values.sum(-1),
        "max": values.amax(-1),
        "norm_2": values.norm(dim=-1),
        "mean": values.mean(-1),
    }[op]
    scale = 1e-3 if op == "sum" else 1e-6
    assert_close(y, want.numpy(), 1e-6, scale)


@DEVICES
@TYPES
@SEEDS
@pytest.mark.parametrize("correction", [0, 1, 270, 1.5])
def test_variance(run: Run, short: str, seed: int, correction: float) -> None:
    rng = np.random.default_rng(seed)
    x = (normal(rng, (2, 1, 24, 3, 90), np.float32) + 10).astype(FLOATS[short])
    values = torch_of(x).flatten(-2)
    out, mean = Placed(rng, x.shape[:3], np.float32), Placed(rng, x.shape[:3], np.float32)
    root = int(seed == 1)
    fields = {"correction": correction, "root": root}
    operands = {"x": laid_out(rng, x, seed), "y": out.array, "mean": mean.array}
    run("variance", operands, fields)
    squares = ((values - values.mean(-1, keepdim=True)) ** 2).sum(-1)
    want = squares / max(0, 270 - correction)
    assert_close(out.array, (want.sqrt() if root else want).numpy(), 1e-5, 0)
    assert_close(mean.array, values.mean(-1).numpy(), 1e-6, 0)
    run("variance", {**operands, "mean": None}, fields)
    out.assert_surroundings_untouched()


# Extremes, scans, sorts.


@DEVICES
@SEEDS
@pytest.mark.parametrize("short", SOME)
@pytest.mark.parametrize("op", ARG_OPS)
@pytest.mark.parametrize("k", [1, 700, 2500])
def test_arg_reduce(run: Run, short: str, seed: int, op: str, k: int) -> None:
    rng = np.random.default_rng(seed + k)
    if short in FLOATS:
        x = with_specials(rng, np.round(2 * normal(rng, (2, 1, 18, k), np.float32)), 2 / k)
        x = x.astype(FLOATS[short])
    else:
        x = integers(rng, (2, 1, 18, k), INTEGERS[short])
    index = Placed(rng, x.shape[:3], np.int64)
    y = Placed(rng, x.shape[:3], x.dtype)
    run("arg_reduce", {"x": laid_out(rng, x, seed), "y": y.array, "index": index.array},
        {"op": ARG_OPS[op]})  # fmt: skip
    # numpy's, too, are the first extremes and the first NaN; PyTorch's of bools do not exist.
    want = getattr(np, f"arg{op}")(x.astype(np.float64 if short in FLOATS else np.int64), axis=-1)
    np.testing.assert_array_equal(index.array, want)
    np.testing.assert_array_equal(
        y.array.astype(np.float64),
        np.take_along_axis(x, want[..., None], -1)[..., 0].astype(np.float64),
    )
    index.assert_surroundings_untouched()
    y.assert_surroundings_untouched()


@DEVICES
@SEEDS
@pytest.mark.parametrize("short", SOME)
@pytest.mark.parametrize("op", SCAN_OPS)
@pytest.mark.parametrize("k", [1, 600])
def test_scan(run: Run, short: str, seed: int, op: str, k: int) -> None:
    if op == "logsumexp" and short not in FLOATS:
        pytest.skip("logsumexp is of floats")
    rng = np.random.default_rng(seed + k)
    shape = (2, 1, 17, k)
    floating = short in FLOATS
    if floating:
        x = normal(rng, shape, np.float32)
        if op == "prod":
            x = 1 + 0.01 * x
        if op in ("max", "min"):
            x = with_specials(rng, np.round(x), 1 / k)
        x = x.astype(FLOATS[short])
    else:
        x = integers(rng, shape, INTEGERS[short])
    values, extreme = torch_of(x), op in ("max", "min")
    name = {"sum": "cumsum", "prod": "cumprod", "logsumexp": "logcumsumexp"}.get(op, f"cum{op}")
    found = getattr(torch, name)(values, -1)
    out = Placed(rng, shape, x.dtype if extreme else np.float32 if floating else np.int64)
    index = Placed(rng, shape, np.int64)
    operands = {
        "x": laid_out(rng, x, seed),
        "y": laid_out(rng, np.zeros(shape, out.array.dtype), 1) if seed == 1 else out.array,
        "index": index.array if extreme else None,
    }
    run("scan", operands, {"op": SCAN_OPS[op]})
    want = (found.values if extreme else found).numpy()
    if extreme or not floating:
        wide = np.float64 if floating else np.int64
        np.testing.assert_array_equal(operands["y"].astype(wide), want)
    else:
        rtol = (k if op == "prod" else 1) * 32 * 2.0**-24
        assert_close(operands["y"], want, rtol, tolerance("float32", k)[1] + 2.0**-20)
    if extreme:
        np.testing.assert_array_equal(index.array, found.indices.numpy())
        index.assert_surroundings_untouched()
    out.assert_surroundings_untouched()


@DEVICES
@pytest.mark.parametrize("op", ["sum", "max"])
def test_scan_in_place(run: Run, op: str) -> None:
    rng = np.random.default_rng(0)
    x = np.round(3 * normal(rng, (1, 1, 3, 1500), np.float32))
    want = np.cumsum(x, -1) if op == "sum" else np.maximum.accumulate(x, -1)
    run("scan", {"x": x, "y": x}, {"op": SCAN_OPS[op]})
    np.testing.assert_array_equal(x, want)


@DEVICES
@SEEDS
@pytest.mark.parametrize("short", SOME)
@pytest.mark.parametrize("descending", [0, 1])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (40, 40), (700, 700), (700, 3), (9000, 5)], ids=str)
def test_sort(run: Run, short: str, seed: int, descending: int, n: int, k: int) -> None:
    if n > 1000 and run is not _cpu:
        pytest.skip("the selection of candidates is the cpu device's alone")
    rng = np.random.default_rng(seed + n)
    shape = (1, 2, 2, n)
    if short in FLOATS:
        x = with_specials(rng, np.round(4 * normal(rng, shape, np.float32)), 0.2)
        x = x.astype(FLOATS[short])
    else:
        x = integers(rng, shape, INTEGERS[short])
        if short == "i64" and seed == 2:
            x = x * (2**40 + 1)
    y, index = Placed(rng, (*shape[:3], k), x.dtype), Placed(rng, (*shape[:3], k), np.int64)
    run("sort", {"x": laid_out(rng, x, seed), "y": y.array, "index": index.array},
        {"descending": descending})  # fmt: skip
    values, order = torch.sort(torch_of(x), dim=-1, descending=bool(descending), stable=True)
    np.testing.assert_array_equal(index.array, order[..., :k].numpy())
    np.testing.assert_array_equal(
        y.array.astype(np.float64), values[..., :k].to(torch.float64).numpy()
    )
    y.assert_surroundings_untouched()
    index.assert_surroundings_untouched()


def test_values_of_another_dtype_are_refused() -> None:
    x, index = np.zeros((1, 1, 1, 4), np.float32), np.zeros((1, 1, 1, 4), np.int64)
    y = np.zeros((1, 1, 1, 4), np.float16)
    with pytest.raises(ProgramError, match="kernel 'sort': y must have x's dtype"):
        _cpu("sort", {"x": x, "y": y, "index": index}, {"descending": 0})
    with pytest.raises(ProgramError, match="kernel 'arg_reduce': y must have x's dtype"):
        _cpu("arg_reduce", {"x": x, "y": y[..., 0]}, {"op": 0})
    with pytest.raises(ProgramError, match="kernel 'scan': y must have x's dtype"):
        _cpu("scan", {"x": x, "y": y}, {"op": SCAN_OPS["max"]})


# Masked softmax.


@DEVICES
@TYPES
@SEEDS
@pytest.mark.parametrize("kind", ["none", "bool", "float", "half"])
@pytest.mark.parametrize("safe", [0, 1])
def test_masked_softmax(run: Run, short: str, seed: int, kind: str, safe: int) -> None:
    rng = np.random.default_rng(seed)
    x = normal(rng, (2, 3, 5, 77), FLOATS[short])
    mask: Array | None = None
    keep = rng.random((1, 1, 5, 77)) < 0.7
    keep[0, 0, 2] = False  # hidden entirely
    values = torch_of(x) * 0.125
    if kind == "bool":
        mask = keep
        values = values.masked_fill(~torch.from_numpy(keep), -np.inf)
    elif kind != "none":
        mask = np.where(keep, rng.standard_normal(keep.shape), -np.inf)
        mask = mask.astype(np.float32 if kind == "float" else np.float16)
        values = values + torch_of(mask)
    want = values.softmax(-1)
    if safe:
        want = want.masked_fill((values == -np.inf).all(-1, keepdim=True), 0)
    out = Placed(rng, x.shape, x.dtype)
    run(
        "masked_softmax",
        {
            "x": laid_out(rng, x, seed),
            "mask": None if mask is None else np.broadcast_to(mask, x.shape),
            "y": out.array,
        },
        {"scale": 0.125, "safe": safe},
    )
    rtol, atol = tolerance(x.dtype.name, 77)
    assert_close(out.array, want.numpy(), rtol + 32 * 2.0**-24, atol * 8)
    out.assert_surroundings_untouched()
