"""The linear kernel on the cpu and reference devices against float64: few and many rows, one and
two parts, norms, int8 weights, layouts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_compiler.kernels.linear import NORMS
from npu_runtime.errors import ProgramError
from tests.cpu.single_dispatch import place, run_kernel
from tests.reference.activations import FUNCTIONS, NAMES, epilogue
from tests.reference.layouts import FLOATS, Array, Placed, assert_close, normal
from tests.tolerances import tolerance

DEVICES = pytest.mark.parametrize("kind", ["cpu", "reference"])
TYPES = pytest.mark.parametrize("short", FLOATS)
CLAMPS = ((-np.inf, np.inf), (0.0, np.inf), (-1.0, 2.0))


def linear64(operands: dict[str, Array | None], activation: str, norm: str, eps: float) -> Array:
    """The kernel's definition in float64, before the clamp."""
    x, w = operands["x"], operands["w"]
    assert x is not None and w is not None
    dtype = x.dtype
    rows = x.astype(np.float64)
    if norm == "rms":
        rows = rows / np.sqrt((rows * rows).mean(-1, keepdims=True) + np.float32(eps))
        scale = operands["scale"]
        rows = rows if scale is None else rows * scale
        rows = rows.astype(np.float32).astype(dtype).astype(np.float64)
    h = np.einsum("mk,pnk->pmn", rows, w.astype(np.float64))
    for name in ("w_scale", "bias"):
        vector = operands[name]
        if vector is not None:
            h = h * vector[:, None] if name == "w_scale" else h + vector[:, None]
    residual = operands["residual"]
    added = 0 if residual is None else residual.astype(np.float64)
    if len(h) == 1:
        h[0] += added
    gate = FUNCTIONS[activation](torch.from_numpy(h[0])).numpy()
    result: Array = gate if len(h) == 1 else gate * h[1] + added
    return result


def check(
    rng: np.random.Generator,
    kind: str,
    dtype: Any,
    *,
    m: int,
    n: int,
    k: int,
    parts: int = 1,
    norm: str = "none",
    scaled: bool = True,
    int8: bool = False,
    bias: bool = False,
    residual: bool = False,
    activation: str = "none",
    clamp: tuple[float, float] = (-np.inf, np.inf),
    strided: float = 0.0,
    special: tuple[str, tuple[int, ...], float] | None = None,
    weights: tuple[str, ...] = (),
) -> Array:
    w = normal(rng, (parts, n, k), np.float32) / np.sqrt(k or 1)
    operands: dict[str, Array | None] = {
        "x": normal(rng, (m, k), dtype),
        "scale": normal(rng, (k,), np.float32) if norm == "rms" and scaled else None,
        "w": rng.integers(-128, 128, w.shape).astype(np.int8) if int8 else w.astype(dtype),
        "w_scale": (rng.random((parts, n)) / 80 / np.sqrt(k or 1)).astype(np.float32)
        if int8
        else None,
        "bias": normal(rng, (parts, n), np.float32) if bias else None,
        "residual": normal(rng, (m, n), dtype) if residual else None,
    }
    if special is not None:
        operand = operands[special[0]]
        assert operand is not None
        operand[special[1]] = special[2]
    eps = 1e-5
    with np.errstate(all="ignore"):
        want = linear64(operands, activation, norm, eps).clip(*clamp)
    out = Placed(rng, (m, n), dtype)
    placed = {
        name: x if x is None or rng.random() >= strided else place(rng, x)
        for name, x in operands.items()
    }
    fields = {"norm": NORMS[norm], "eps": eps, **epilogue(activation, clamp)}
    run_kernel("linear", {**placed, "y": out.array}, fields, weights=weights, kind=kind)
    rtol, atol = tolerance(np.dtype(dtype).name, k + 2)
    if norm == "rms" and np.dtype(dtype).itemsize == 2:
        # A normed element next to a tie may be rounded the other way: one more roundoff of a term.
        atol += rtol * 4 / np.sqrt(k or 1)
    assert_close(out.array, want, rtol, atol)
    out.assert_surroundings_untouched()
    return out.array


@DEVICES
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_random(kind: str, data: st.DataObject) -> None:
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    check(
        *(rng, kind, FLOATS[draw(st.sampled_from(sorted(FLOATS)))]),
        m=draw(st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 17, 40])),
        n=draw(st.one_of(st.integers(1, 40), st.integers(41, 200))),
        k=draw(st.one_of(st.integers(1, 70), st.sampled_from([128, 200, 259]))),
        parts=draw(st.integers(1, 2)),
        norm=draw(st.sampled_from(sorted(NORMS))),
        scaled=draw(st.booleans()),
        int8=draw(st.booleans()),
        bias=draw(st.booleans()),
        residual=draw(st.booleans()),
        activation=draw(st.sampled_from(NAMES)),
        clamp=draw(st.sampled_from(CLAMPS)),
        strided=draw(st.sampled_from([0.0, 0.5])),
        weights=draw(st.sampled_from([(), ("w", "scale", "w_scale", "bias")])),
    )


@TYPES
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("m", [1, 6, 130, 600])
def test_wide_layers(short: str, int8: bool, m: int) -> None:
    """Several tasks and panels, row blocks, rows longer than a prefetch."""
    rng = np.random.default_rng(m)
    sizes = {"m": m, "n": 333 if m < 600 else 40, "k": 1100, "parts": 2 if m == 6 else 1}
    check(rng, "cpu", FLOATS[short], **sizes, int8=int8, norm="rms", bias=True, residual=True)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize(("m", "n", "parts"), [(250, 40, 1), (250, 20, 2), (20, 40, 2)])
def test_many_rows_of_many_terms(m: int, n: int, parts: int, int8: bool) -> None:
    """More of x than stays in cache, steps and tiles of weights that are not whole."""
    sizes = {"m": m, "n": n, "k": 2990, "parts": parts}
    rng = np.random.default_rng(m)
    check(rng, "cpu", FLOATS["bf16"], **sizes, int8=int8, bias=True, residual=True)


@DEVICES
@TYPES
@pytest.mark.parametrize("m", [2, 30])
@pytest.mark.parametrize("parts", [1, 2])
def test_adds_into_its_residual(kind: str, short: str, m: int, parts: int) -> None:
    rng = np.random.default_rng(0)
    x, w = normal(rng, (m, 64), FLOATS[short]), normal(rng, (parts, 70, 64), FLOATS[short])
    y = normal(rng, (m, 70), FLOATS[short])
    h = np.einsum("mk,pnk->pmn", x.astype(np.float64), w.astype(np.float64))
    want = y.astype(np.float64) + (h[0] if parts == 1 else h[0] * h[1])
    fields = {"norm": 0, "eps": 0.0, **epilogue()}
    run_kernel("linear", {"x": x, "w": w, "residual": y, "y": y}, fields, kind=kind)
    rtol, atol = tolerance(x.dtype.name, 65)
    # The factors of two parts are of magnitude 8.
    assert_close(y, want, rtol, atol if parts == 1 else 32 * atol)


@DEVICES
@TYPES
@pytest.mark.parametrize("m", [3, 20])
@pytest.mark.parametrize("norm", sorted(NORMS))
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_spread_as_in_the_definition(
    kind: str, short: str, m: int, norm: str, value: float
) -> None:
    rng = np.random.default_rng(0)
    sizes = {"m": m, "n": 40, "k": 45}
    got = check(rng, kind, FLOATS[short], **sizes, norm=norm, special=("x", (1, 2), value))
    assert not np.isfinite(got[1].astype(np.float64)).any()
    assert np.isfinite(np.delete(got, 1, 0).astype(np.float64)).all()
    got = check(rng, kind, FLOATS[short], **sizes, norm=norm, special=("w", (0, 7, 3), value))
    assert not np.isfinite(got[:, 7].astype(np.float64)).any()


@DEVICES
@pytest.mark.parametrize("m", [2, 12])
def test_without_terms_it_is_the_bias(kind: str, m: int) -> None:
    y = np.full((m, 3), np.nan, np.float16)
    operands = {
        "x": np.zeros((m, 0), np.float16),
        "w": np.zeros((1, 3, 0), np.float16),
        "bias": np.array([[1, -2, 3]], np.float32),
        "y": y,
    }
    fields = {"norm": 1, "eps": 0.0, **epilogue(clamp=(0.0, np.inf))}
    run_kernel("linear", operands, fields, kind=kind)
    np.testing.assert_array_equal(y, [[1, 0, 3]] * m)


@TYPES
@pytest.mark.parametrize("int8", [False, True])
def test_rows_do_not_depend_on_their_number(short: str, int8: bool) -> None:
    """Up to eight rows: the same sums, bit by bit, as one row gives; and with more than eight,
    however many they are.
    """
    rng = np.random.default_rng(0)
    x = normal(rng, (8, 333), FLOATS[short])
    w = normal(rng, (1, 77, 333), FLOATS[short])
    operands: dict[str, Array | None] = {"x": x, "w": w}
    if int8:
        operands["w"] = rng.integers(-128, 128, w.shape).astype(np.int8)
        operands["w_scale"] = rng.random((1, 77)).astype(np.float32)
    fields = {"norm": 1, "eps": 1e-6, **epilogue("silu")}

    def run(rows: Array) -> Array:
        y = np.empty((len(rows), 77), x.dtype)
        run_kernel("linear", {**operands, "x": rows, "y": y}, fields)
        return y.view(np.uint8)

    together = run(x)
    for m in range(1, 8):
        np.testing.assert_array_equal(run(np.ascontiguousarray(x[:m])), together[:m])
    many = normal(rng, (130, 333), FLOATS[short])
    together = run(many)
    for m in (9, 16, 50, 97):
        np.testing.assert_array_equal(run(np.ascontiguousarray(many[-m:])), together[-m:])


@pytest.mark.parametrize("m", [1, 20])
@pytest.mark.parametrize("wrong", ["no scale", "needless scale", "another dtype"])
def test_refuses_weights_that_do_not_fit(m: int, wrong: str) -> None:
    dtype = {"no scale": np.int8, "needless scale": np.float32, "another dtype": np.float16}[wrong]
    operands: dict[str, Array | None] = {
        "x": np.zeros((m, 4), np.float32),
        "w": np.zeros((1, 5, 4), dtype),
        "w_scale": np.zeros((1, 5), np.float32) if wrong == "needless scale" else None,
        "y": np.zeros((m, 5), np.float32),
    }
    fields = {"norm": 0, "eps": 0.0, **epilogue()}
    with pytest.raises(ProgramError, match=r"kernel 'linear': .*compile the model again"):
        run_kernel("linear", operands, fields)
