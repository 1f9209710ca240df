"""Schedules on the reference device, in both thread orders and with every access checked, against
the kernel's own launch; and which schedule is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest

from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.activation import ACTIVATIONS
from npu_compiler.kernels.record import Kernel
from tests.reference.activations import epilogue
from tests.reference.layouts import FLOATS, Array, assert_close, normal
from tests.reference.native_library import run_kernel
from tests.tolerances import tolerance

LINEAR, GEMM, CONV2D = KERNELS["linear"], KERNELS["gemm"], KERNELS["conv2d"]
EXPERT_LINEAR = KERNELS["expert_linear"]
ORDERS = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
Fields = Mapping[str, Any]


class View(NamedTuple):
    """An array as an operand of a program."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    offset: int


def aligned(values: Array, row: int = 0, skip: int = 0) -> Array:
    """A copy at a multiple of 64 bytes (and ``skip`` elements), rows ``row`` elements apart."""
    row = max(row, values.shape[-1])
    shape = (*values.shape[:-1], row)
    item = values.itemsize
    block = np.zeros(int(np.prod(shape)) * item + 64 + skip * item, np.uint8)
    start = -block.__array_interface__["data"][0] % 64 + skip * item
    placed = block[start : start + int(np.prod(shape)) * item].view(values.dtype).reshape(shape)
    placed[...] = 0
    placed[..., : values.shape[-1]] = values
    return placed[..., : values.shape[-1]]


def view(array: Array | None) -> View | None:
    """What the Python side of the choice sees of an array."""
    if array is None:
        return None
    strides = tuple(s // array.itemsize for s in array.strides)
    return View(array.shape, strides, array.dtype.name, array.__array_interface__["data"][0] % 256)


def check(
    kernel: Kernel,
    operands: Mapping[str, Array | None],
    fields: Fields,
    schedule: str,
    terms: int,
    reverse: bool = False,
) -> None:
    """The schedule is chosen (on the Python side, too) and computes what the kernel does."""
    chosen = kernel.choose({k: view(v) for k, v in operands.items()}, fields)
    assert (chosen.name if chosen else "") == schedule
    got, want = operands["y"], np.zeros_like(operands["y"])
    assert got is not None
    run_kernel(kernel, {**operands, "y": want}, fields)
    run_kernel(kernel, operands, fields, reverse=reverse, schedule=schedule)
    rtol, atol = tolerance(got.dtype.name, terms)
    assert_close(got, want.astype(np.float64), 2 * rtol, 2 * atol)


def linear_operands(
    short: str,
    m: int,
    n: int,
    k: int,
    *,
    parts: int = 1,
    int8: bool = False,
    full: bool = False,
    row: int = 0,
    skip: int = 0,
) -> dict[str, Array | None]:
    """Operands of kernel linear; ``full``: with scale, bias and residual, which gives RMS norm."""
    rng = np.random.default_rng(m * 1000 + n)
    dtype = FLOATS[short]
    w = (rng.standard_normal((parts, n, k)) / np.sqrt(k)).astype(dtype)
    if int8:
        w = rng.integers(-127, 128, (parts, n, k)).astype(np.int8)
    return {
        "x": aligned(normal(rng, (m, k), dtype), row),
        "scale": aligned(normal(rng, (k,), np.float32)) if full else None,
        "w": aligned(w, row, skip),
        "w_scale": np.full((parts, n), 1 / (64 * k**0.5), np.float32) if int8 else None,
        "bias": normal(rng, (parts, n), np.float32) if full else None,
        "residual": normal(rng, (m, n), dtype) if full else None,
        "y": np.zeros((m, n), dtype),
    }


def linear_fields(full: bool, activation: str = "none") -> Fields:
    return {"norm": int(full), "eps": 1e-5, **epilogue(activation)}


# By name: schedule, m, n, k and options of linear_operands.
LINEARS: dict[str, tuple[str, int, int, int, dict[str, Any]]] = {
    "one row": ("row_split", 1, 9, 1536, {"full": True, "parts": 2}),
    "one row of int8": ("row_split", 1, 9, 528, {"int8": True}),
    "three rows of int8": ("rows_split", 3, 17, 272, {"full": True, "int8": True, "row": 304}),
    "nine rows": ("rows_split", 9, 5, 264, {"full": True, "parts": 2}),
    "many weights": ("row", 1, 8195, 16, {"full": True, "int8": True}),
    "many weights, rows": ("rows", 4, 4097, 16, {"parts": 2}),
    "tiles": ("tiles", 70, 65, 72, {"full": True}),
    "tiles of int8": ("tiles", 17, 130, 80, {"full": True, "int8": True}),
    "tiles of two parts": ("tiles_pair", 66, 67, 72, {"full": True, "parts": 2}),
    "shared tiles": ("split", 20, 70, 1048, {"full": True}),
    "many tiles": ("tiles_large", 20, 16385, 8, {"full": True, "parts": 2}),
}


@ORDERS
@pytest.mark.parametrize(
    ("case", "short"),
    [
        (case, short)
        for case in LINEARS
        for short in LINEAR.types["T"]
        if short == "bf16" or not case.startswith("many")
    ],
)
def test_linear(case: str, short: str, reverse: bool) -> None:
    schedule, m, n, k, options = LINEARS[case]
    operands = linear_operands(short, m, n, k, **options)
    fields = linear_fields(options.get("full", False), "silu")
    check(LINEAR, operands, fields, schedule, k + 2, reverse)


@ORDERS
@pytest.mark.parametrize(("parts", "n", "k"), [(1, 33, 272), (2, 19, 528)])
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("short", EXPERT_LINEAR.types["T"])
def test_expert_linear(short: str, int8: bool, parts: int, n: int, k: int, reverse: bool) -> None:
    rng = np.random.default_rng(n)
    dtype = FLOATS[short]
    w = (rng.standard_normal((3, parts, n, k)) / np.sqrt(k)).astype(dtype)
    if int8:
        w = rng.integers(-127, 128, w.shape).astype(np.int8)
    operands: dict[str, Array | None] = {
        "x": np.broadcast_to(aligned(normal(rng, (2, 1, k), dtype)), (2, 2, k)),
        "expert": np.array([[2, 0], [-1, 1]]),
        "w": aligned(w, k + 16),
        "w_scale": np.full((3, parts, n), 1 / (64 * k**0.5), np.float32) if int8 else None,
        "y": np.zeros((2, 2, n), dtype),
    }
    fields = {"wrap": 1, "activation": ACTIVATIONS["silu" if parts == 2 else "none"]}
    check(EXPERT_LINEAR, operands, fields, "wide", k + 2, reverse)


@ORDERS
@pytest.mark.parametrize("across", [False, True], ids=["rows", "columns"])
@pytest.mark.parametrize(
    ("schedule", "b", "m", "n", "k"),
    [("tiles", 2, 70, 72, 40), ("split", 2, 9, 72, 1048), ("tiles_large", 256, 8, 16, 24)],
)
@pytest.mark.parametrize("short", GEMM.types["T"])
def test_gemm(
    schedule: str, b: int, m: int, n: int, k: int, short: str, across: bool, reverse: bool
) -> None:
    rng = np.random.default_rng(b)
    dtype = FLOATS[short]
    w = aligned(normal(rng, (b, k, n) if across else (b, n, k), dtype))
    operands = {
        "x": aligned((rng.standard_normal((b, m, k)) / np.sqrt(k)).astype(dtype)),
        "w": w.transpose(0, 2, 1) if across else w,
        "bias": normal(rng, (n,), np.float32) if across else None,
        "residual": None if across else normal(rng, (b, m, n), dtype),
        "y": np.zeros((b, m, n), dtype),
    }
    check(GEMM, operands, epilogue("gelu"), schedule, k + 2, reverse)


@ORDERS
@pytest.mark.parametrize(
    ("schedule", "n", "groups", "ic", "oc", "side", "taps", "stride"),
    [
        ("tiles", 2, 2, 24, 40, 9, 3, 2),
        ("split", 1, 2, 64, 20, 5, 4, 1),
        ("tiles_large", 256, 1, 8, 16, 2, 3, 1),
    ],
)
@pytest.mark.parametrize("short", CONV2D.types["T"])
def test_conv2d(
    schedule: str,
    n: int,
    groups: int,
    ic: int,
    oc: int,
    side: int,
    taps: int,
    stride: int,
    short: str,
    reverse: bool,
) -> None:
    rng = np.random.default_rng(n)
    dtype = FLOATS[short]
    out = (side + 2 - taps) // stride + 1
    x = aligned(normal(rng, (n, side, side, ic * groups), dtype)).transpose(0, 3, 1, 2)
    common = taps * taps * ic
    w = rng.standard_normal((oc * groups, taps, taps, ic)) / np.sqrt(common)
    operands = {
        "x": x,
        "w": aligned(w.astype(dtype)),
        "bias": normal(rng, (oc * groups,), np.float32),
        "residual": normal(rng, (n, oc * groups, out, out), dtype),
        "y": np.zeros((n, oc * groups, out, out), dtype),
    }
    fields = {f"stride_{axis}": stride for axis in "hw"} | {"pad_top": 1, "pad_left": 1}
    fields |= {"dilation_h": 1, "dilation_w": 1, "groups": groups, **epilogue("silu")}
    check(CONV2D, operands, fields, schedule, common + 2, reverse)


def test_narrow_groups_run_as_the_record_says() -> None:
    x = aligned(np.ones((1, 4, 4, 64), np.float16)).transpose(0, 3, 1, 2)
    operands = {
        "x": x,
        "w": aligned(np.ones((64, 1, 1, 8), np.float16)),
        "y": np.zeros((1, 64, 4, 4), np.float16),
    }
    fields = {f"stride_{axis}": 1 for axis in "hw"} | {"pad_top": 0, "pad_left": 0}
    fields |= {"dilation_h": 1, "dilation_w": 1, "groups": 8, **epilogue()}
    check(CONV2D, operands, fields, "", 8)


@pytest.mark.parametrize(
    ("m", "k", "options"),
    [
        (1, 20, {}),  # rows end within 16 bytes
        (1, 32, {"row": 36}),  # rows begin there
        (1, 32, {"skip": 4}),  # the weights begin there
    ],
)
def test_what_is_not_aligned_runs_as_the_record_says(
    m: int, k: int, options: dict[str, Any]
) -> None:
    check(LINEAR, linear_operands("f16", m, 5, k, **options), linear_fields(False), "", k)
