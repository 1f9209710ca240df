"""The rotary_cache kernel on the cpu and reference devices against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_runtime.errors import ArgumentError, ProgramError
from tests.cpu.single_dispatch import place, run_kernel
from tests.reference.layouts import FLOATS, Array, Placed, assert_close, normal
from tests.tolerances import tolerance

DEVICES = pytest.mark.parametrize("kind", ["cpu", "reference"])


def rotated(x: Array, cos: Array, sin: Array) -> Array:
    """x (b, t, heads, d) turned by cos and sin (b, t, r), in float64."""
    half = cos.shape[-1]
    x = x.astype(np.float64)
    c, s = (table.astype(np.float64)[:, :, None] for table in (cos, sin))
    low, high, rest = np.split(x, [half, 2 * half], axis=-1)
    return np.concatenate([low * c - high * s, high * c + low * s, rest], axis=-1)


def _operands(
    rng: np.random.Generator,
    dtype: Any,
    tables: Any,
    slots: Array,
    sizes: tuple[int, int, int, int, int],
) -> dict[str, Array]:
    h, g, d, e, r = sizes
    b, t = slots.shape
    return {
        "q": normal(rng, (b, t, h, d), dtype),
        "k": normal(rng, (b, t, g, d), dtype),
        "v": normal(rng, (b, t, g, e), dtype),
        "cos": normal(rng, (b, t, r), tables),
        "sin": normal(rng, (b, t, r), tables),
        "slots": slots,
    }


@DEVICES
@pytest.mark.parametrize("short", FLOATS)
@given(data=st.data())
@settings(max_examples=15, deadline=None, derandomize=True)
def test_random(kind: str, short: str, data: st.DataObject) -> None:
    draw, pick = data.draw, lambda *choices: data.draw(st.sampled_from(choices))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    dtype, tables = FLOATS[short], FLOATS[pick(short, "f32")]
    b, t, rows = pick(1, 2), pick(1, 3, 70 if kind == "cpu" else 4), pick(1, 5, 300)
    h, g, half = pick(1, 3), pick(1, 2), pick(1, 8, 17)
    d, e = 2 * half + pick(0, 1, 6), pick(1, 16, 33)
    # With more tokens than rows several tokens share a row: the last one wins.
    slots = rng.integers(0, rows, (b, t)).astype(pick(np.int32, np.int64))
    operands = _operands(rng, dtype, tables, slots, (h, g, d, e, half))
    # One cache for all sequences, or one each.
    caches = pick(1, b)
    k, q = (rotated(operands[x], operands["cos"], operands["sin"]) for x in ("k", "q"))
    outs = {
        "q_out": Placed(rng, (b, t, h, d), dtype),
        "k_cache": Placed(rng, (caches, rows, g, d), dtype),
        "v_cache": Placed(rng, (caches, rows, g, e), dtype),
    }
    wanted = {}
    for name, size, source in (("k_cache", d, k), ("v_cache", e, operands["v"])):
        before = normal(rng, (caches, rows, g, size), dtype)
        outs[name].array[...] = before
        wanted[name] = before.astype(np.float64)
        for token, row in np.ndenumerate(slots):
            wanted[name][token[0] % caches, row] = source[token]
    strided = {name: place(rng, x) if draw(st.booleans()) else x for name, x in operands.items()}
    run_kernel("rotary_cache", strided | {n: o.array for n, o in outs.items()}, {}, kind=kind)
    rtol, atol = tolerance(np.dtype(dtype).name, 4)
    for name, want in {"q_out": q, **wanted}.items():
        assert_close(outs[name].array, want, rtol, atol)
        outs[name].assert_surroundings_untouched()


def _run(slots: Array, kind: str, tables: Any = np.float32) -> None:
    rng = np.random.default_rng(0)
    operands = _operands(rng, np.float32, tables, slots, (1, 1, 4, 4, 2))
    caches = {name: np.zeros((1, 6, 1, 4), np.float32) for name in ("k_cache", "v_cache")}
    out = np.zeros(operands["q"].shape, np.float32)
    run_kernel("rotary_cache", {**operands, "q_out": out, **caches}, {}, kind=kind)


@DEVICES
@pytest.mark.parametrize("bad", [6, -1, (1 << 32) + 1, -(1 << 63)])
def test_a_slot_out_of_range_is_an_error_that_names_it(kind: str, bad: int) -> None:
    with pytest.raises(ArgumentError, match=rf"rotary_cache.*index {bad} is out of range.* of 6"):
        _run(np.array([[2, bad, 3]]), kind)


def test_slots_and_tables_of_other_dtypes_are_refused() -> None:
    with pytest.raises(ProgramError, match="slots holds indices, which are int64 or int32"):
        _run(np.zeros((1, 2), np.float32), "cpu")
    with pytest.raises(ProgramError, match=r"operand cos .* must be floating-point"):
        _run(np.zeros((1, 2), np.int64), "cpu", np.int32)
