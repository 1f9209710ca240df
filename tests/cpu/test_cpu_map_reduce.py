"""The map_reduce kernel on the cpu and the reference device: layouts, dtypes, several outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cpu.elementwise_code import constant, load, op, store
from tests.cpu.map_reduce_code import combined, hand_over, map_reduce, reduced
from tests.cpu.single_dispatch import Array, place
from tests.reference.layouts import FLOATS, Placed, assert_close, normal
from tests.tolerances import UNIT_ROUNDOFF, tolerance

DEVICES = ("cpu", "reference")
SIZES = st.sampled_from([1, 1, 2, 3, 7, 17])
# Shapes whose form differs on the cpu device: rows short and long, lanes, all of it.
SHAPES = [
    (1, 1, 40, 1, 1, 9),
    (1, 1, 300, 1, 1, 3),
    (1, 1, 3, 1, 1, 5000),
    (1, 1, 1, 1, 1, 70000),
    (1, 1, 1, 3, 41, 67),
    (2, 3, 30, 1, 7, 50),
    (1, 2, 600, 1, 1, 40),
]


def forward(a: Array, order: str) -> Array:
    """``a`` with its axes laid out in another order in memory."""
    if order == "rows":
        return np.ascontiguousarray(a)
    axes = (3, 4, 5, 0, 1, 2) if order == "columns" else (5, 1, 3, 2, 0, 4)
    return np.ascontiguousarray(a.transpose(axes)).transpose(np.argsort(axes))


@pytest.mark.parametrize("short", FLOATS)
@pytest.mark.parametrize("order", ["rows", "columns", "mixed"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("combine", ["sum", "max", "min"])
def test_programs_around_a_reduction(
    short: str, order: str, shape: tuple[int, ...], combine: str
) -> None:
    """combine((x - y)^2) * s + 1 in one output, what is combined in another."""
    rng = np.random.default_rng(0)
    dtype = FLOATS[short]
    count = shape[3] * shape[4] * shape[5]
    x, y = forward(normal(rng, shape, dtype), order), normal(rng, (1, *shape[1:-1], 1), dtype)
    scale = (normal(rng, (*shape[:3], 1, 1, 1), np.float32) / count).astype(np.float32)
    outs = [Placed(rng, shape[:3], d) for d in (dtype, np.float32)]
    map_code = [load(0, 0), load(1, 1), op("sub_f", 0, 0, 1), op("mul_f", 0, 0, 0), hand_over(0)]
    finish_code = [reduced(3), load(1, 2), op("mul_f", 2, 3, 1), constant(1, 1.0)]
    finish_code += [op("add_f", 2, 2, 1), store(0, 2), store(1, 3)]
    arrays = [o.array for o in outs]
    map_reduce(combine, "float32", map_code, finish_code, [x, y, scale], arrays).run_in_place()
    exact = [a.astype(np.float64) for a in (x, y, scale)]
    values = combined(combine, (exact[0] - exact[1]) ** 2 + np.zeros(shape))
    # No term is negative: each addition errs by a roundoff of the sum, in random directions.
    rtol = 4 * (1 + count**0.5) * UNIT_ROUNDOFF["float32"]
    assert_close(outs[1].array, values, rtol, 0)
    own = tolerance(np.dtype(dtype).name, 2)
    assert_close(outs[0].array, values * exact[2][..., 0, 0, 0] + 1, *np.add(own, rtol * 4))
    for out in outs:
        out.assert_surroundings_untouched()


@pytest.mark.parametrize("kind", DEVICES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_layout(kind: str, data: st.DataObject) -> None:
    """Operands of every dtype in any order of axes, broadcast along some of them."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = tuple(data.draw(SIZES) for _ in range(6))
    whole = tuple(n for n in shape)
    part = tuple(1 if data.draw(st.booleans()) else n for n in shape)
    combine = data.draw(st.sampled_from(["sum", "max", "min", "prod"]))
    kinds: Any = {"float32": ("f4", "f"), "int32": ("i4", "i"), "int64": ("i8", "l")}
    name = data.draw(st.sampled_from(sorted(kinds)))
    dtype, letter = kinds[name]
    x, y = (rng.integers(-3, 4, s).astype(dtype) for s in (whole, part))
    out = Placed(rng, shape[:3], np.dtype(dtype))
    map_code = [load(0, 0), load(1, 1), op(f"add_{letter}", 2, 0, 1), hand_over(2)]
    finish_code = [reduced(0), op(f"add_{letter}", 0, 0, 0), store(0, 0)]
    map_reduce(
        combine, name, map_code, finish_code, [place(rng, x), place(rng, y)], [out.array], kind
    ).run_in_place()
    with np.errstate(over="ignore"):
        # Small integers: exact in float32 but for products, which need float64.
        exact = (x + y).astype(np.float64 if letter == "f" else dtype)
        want = 2 * combined(combine, exact).astype(exact.dtype)
    if letter == "f":
        assert_close(out.array, want, 1e-4, 1e-6)
    else:
        np.testing.assert_array_equal(out.array, want.astype(dtype))
    out.assert_surroundings_untouched()


@pytest.mark.parametrize("kind", DEVICES)
@pytest.mark.parametrize("combine", ["max", "min"])
@pytest.mark.parametrize("axis", [2, 5])
def test_nan_wins(kind: str, combine: str, axis: int) -> None:
    x = np.arange(700, dtype=np.float32).reshape(1, 1, 7, 1, 1, 100)
    x[0, 0, 2, 0, 0, 57] = np.nan
    x[0, 0, 3] = -np.inf
    x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, axis, -1)), -1, axis)
    out = np.zeros((1, 1, 7), np.float32)
    code = [load(0, 0), op("neg_f", 0, 0), hand_over(0)]
    map_reduce(combine, "float32", code, [reduced(0), store(0, 0)], [x], [out], kind).run_in_place()
    np.testing.assert_array_equal(out, combined(combine, -x))
    assert np.isnan(out[0, 0, 2])


@pytest.mark.parametrize("kind", DEVICES)
@pytest.mark.parametrize("name", ["int32", "int64"])
def test_integers_wrap(kind: str, name: str) -> None:
    rng = np.random.default_rng(0)
    info = np.iinfo(name)
    x = rng.integers(info.min, info.max, (1, 1, 5, 1, 1, 300), dtype=name, endpoint=True)
    letter = "i" if name == "int32" else "l"
    for combine in ("sum", "prod", "max", "min"):
        out = np.zeros((1, 1, 5), name)
        code = [load(0, 0), op(f"add_{letter}", 0, 0, 0), hand_over(0)]
        finish = [reduced(0), store(0, 0)]
        map_reduce(combine, name, code, finish, [x], [out], kind).run_in_place()
        with np.errstate(over="ignore"):
            want = {"sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min}[combine](
                x + x, axis=(3, 4, 5), **({"dtype": name} if combine in ("sum", "prod") else {})
            )
        np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1, 1 << 20), (1, 1, 8, 1, 1 << 17, 1)], ids=str)
def test_long_sums_are_exact_to_float32(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = rng.random(shape, np.float32)
    if shape[2] > 1:
        x = np.ascontiguousarray(x.transpose(3, 4, 5, 0, 1, 2)).transpose(3, 4, 5, 0, 1, 2)
    out = np.zeros(shape[:3], np.float32)
    code = [load(0, 0), op("mul_f", 0, 0, 0), hand_over(0)]
    map_reduce("sum", "float32", code, [reduced(0), store(0, 0)], [x], [out]).run_in_place()
    np.testing.assert_allclose(out, combined("sum", x.astype(np.float64) ** 2), rtol=1e-6)
