"""Schedules on the reference device, in both thread orders and with every access checked, against
the kernel's own launch; and which schedule is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest

from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.record import Kernel
from tests.reference.activations import epilogue
from tests.reference.layouts import FLOATS, Array, assert_close, normal
from tests.reference.native_library import run_kernel
from tests.tolerances import tolerance

LINEAR = KERNELS["linear"]
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
        "scale": normal(rng, (k,), np.float32) if full else None,
        "w": aligned(w, row, skip),
        "w_scale": np.full((parts, n), 1 / (64 * k**0.5), np.float32) if int8 else None,
        "bias": normal(rng, (parts, n), np.float32) if full else None,
        "residual": normal(rng, (m, n), dtype) if full else None,
        "y": np.zeros((m, n), dtype),
    }


def linear_fields(full: bool, activation: str = "none") -> Fields:
    return {"norm": int(full), "eps": 1e-5, **epilogue(activation)}


FEW: dict[str, tuple[int, int, int, dict[str, Any]]] = {
    "row_split": (1, 9, 1536, {"full": True, "parts": 2}),
    "rows4_split": (3, 17, 272, {"full": True, "int8": True, "row": 304}),
    "rows8_split": (8, 5, 264, {"full": True, "parts": 2}),
    "row": (1, 8195, 16, {"full": True, "int8": True}),
    "rows4": (4, 4097, 16, {"parts": 2}),
    "rows8": (5, 8192, 8, {}),
}


@ORDERS
@pytest.mark.parametrize(
    ("schedule", "short"),
    [
        (schedule, short)
        for schedule in FEW
        for short in LINEAR.types["T"]
        if schedule.endswith("split") or short == "bf16"
    ],
)
def test_linear_of_few_rows(schedule: str, short: str, reverse: bool) -> None:
    m, n, k, options = FEW[schedule]
    operands = linear_operands(short, m, n, k, **options)
    fields = linear_fields(options.get("full", False), "silu")
    check(LINEAR, operands, fields, schedule, k + 2, reverse)


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
