"""The attention kernel on the cpu and reference devices against float64: grouped heads, masks,
layouts, long and short rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_runtime.errors import ProgramError
from tests.cpu.single_dispatch import place, run_kernel
from tests.reference.layouts import FLOATS, Array, Placed, assert_close, normal
from tests.tolerances import tolerance

DEVICES = pytest.mark.parametrize("kind", ["cpu", "reference"])
TYPES = pytest.mark.parametrize("short", FLOATS)


def attention64(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    scale: float = 1.0,
    causal: bool = False,
    empty_is_nan: bool = False,
    positions: Array | None = None,
    window: int = 0,
    softcap: float = 0.0,
) -> Array:
    """The kernel's definition in float64."""
    group = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x.astype(np.float64), group, axis=1) for x in (k, v))
    with np.errstate(invalid="ignore"):
        scores = np.einsum("bhmd,bhnd->bhmn", q.astype(np.float64), k) * np.float32(scale)
        if softcap:
            scores = softcap * np.tanh(scores / softcap)
        if mask is not None:
            added = np.where(mask, 0, -np.inf) if mask.dtype == bool else mask.astype(np.float64)
            scores = scores + added
        if causal:
            seen = np.tril(np.ones(scores.shape[-2:], bool))
            scores = np.where(seen, scores, -np.inf)
        m, n = scores.shape[-2:]
        at = np.arange(m)[None] if positions is None else positions
        key, at = np.arange(n), at[:, None, :, None]
        if positions is not None:
            scores = np.where(key <= at, scores, -np.inf)
        if window:
            scores = np.where(key > at - window, scores, -np.inf)
        largest = scores.max(-1, keepdims=True, initial=-np.inf)
        e = np.exp(scores - np.where(largest == -np.inf, 0, largest))
        total = e.sum(-1, keepdims=True)
        empty = total == 0
        result = np.einsum("bhmn,bhnd->bhmd", e / np.where(empty, 1, total), v)
    return np.where(empty, np.nan if empty_is_nan else 0.0, result)


def check(
    rng: np.random.Generator,
    kind: str,
    dtype: Any,
    *,
    b: int,
    groups: int,
    kv_heads: int,
    m: int,
    n: int,
    d: int,
    dv: int,
    mask: Array | None = None,
    scale: float = 0.3,
    causal: bool = False,
    empty_is_nan: bool = False,
    special: tuple[str, tuple[int, ...], float] | None = None,
    positions: Array | None = None,
    window: int = 0,
    softcap: float = 0.0,
) -> Array:
    heads = groups * kv_heads
    operands = {
        "q": normal(rng, (b, heads, m, d), dtype),
        "k": normal(rng, (b, kv_heads, n, d), dtype),
        "v": normal(rng, (b, kv_heads, n, dv), dtype),
    }
    if special is not None:
        operands[special[0]][special[1]] = special[2]
    want = attention64(
        *(*operands.values(), mask, scale, causal, empty_is_nan, positions, window, softcap)
    )
    out = Placed(rng, want.shape, dtype)
    strided: dict[str, Array | None] = {
        name: place(rng, x) if rng.random() < 0.5 else x for name, x in operands.items()
    }
    strided["mask"] = None if mask is None else np.broadcast_to(mask, (b, heads, m, n))
    strided["positions"] = None if positions is None else place(rng, positions)
    fields = {
        "scale": scale,
        "causal": int(causal),
        "empty_is_nan": int(empty_is_nan),
        "window": window,
        "softcap": softcap,
    }
    run_kernel("attention", {**strided, "y": out.array}, fields, kind=kind)
    rtol, atol = tolerance(np.dtype(dtype).name, n + d)
    assert_close(out.array, want, rtol, atol)
    out.assert_surroundings_untouched()
    return want


@DEVICES
@TYPES
@pytest.mark.parametrize("seed", range(10), ids=lambda s: f"seed{s}")
def test_random(kind: str, short: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pick = lambda *choices: choices[rng.integers(len(choices))]  # noqa: E731
    b, groups, kv_heads = pick(1, 2), pick(1, 2, 3), pick(1, 2)
    m, n = pick(1, 2, 7, 33, 70), pick(1, 5, 32, 65, 150)
    heads, causal = groups * kv_heads, bool(rng.integers(2))
    masks: dict[str, Any] = {
        "none": lambda: None,
        "bool": lambda: rng.random((b, 1, m, n)) < 0.7,
        "f32": lambda: normal(rng, (1, heads, 1, n), np.float32),
        "same": lambda: normal(rng, (m, n), FLOATS[short]),
        "minus_infinity": lambda: np.where(rng.random((b, 1, 1, n)) < 0.7, 0, -np.inf).astype(
            FLOATS[short]
        ),
    }
    check(
        *(rng, kind, FLOATS[short]),
        **{"b": b, "groups": groups, "kv_heads": kv_heads, "m": m, "n": n},
        d=pick(1, 8, 33, 64, 100),
        dv=pick(1, 16, 63, 64, 130),
        mask=masks[pick(*masks)](),
        scale=pick(0.1, 1.0, -0.5),
        causal=causal,
        empty_is_nan=bool(rng.integers(2)),
        window=pick(0, 0, 3, 40),
        softcap=pick(0.0, 0.0, 2.0),
    )


@TYPES
@pytest.mark.parametrize("kv_heads", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_decode_step_over_many_keys(short: str, kv_heads: int, masked: bool) -> None:
    rng = np.random.default_rng(kv_heads)
    n = 1500
    mask = np.arange(n) < 700 if masked else None
    check(
        *(rng, "cpu", FLOATS[short]),
        **{"b": 1, "groups": 6, "kv_heads": kv_heads, "m": 1, "n": n, "d": 128, "dv": 128},
        mask=mask,
        scale=128**-0.5,
    )


@TYPES
def test_many_queries_and_keys(short: str) -> None:
    rng = np.random.default_rng(0)
    sizes = {"b": 1, "groups": 1, "kv_heads": 2, "m": 300, "n": 300, "d": 64, "dv": 64}
    check(rng, "cpu", FLOATS[short], **sizes, scale=0.125, causal=True)


@DEVICES
@pytest.mark.parametrize("empty_is_nan", [False, True])
@pytest.mark.parametrize("m", [3, 40])
def test_rows_without_keys(kind: str, empty_is_nan: bool, m: int) -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((m, 20)) < 0.5
    mask[1] = False
    sizes = {"b": 1, "groups": 2, "kv_heads": 1, "m": m, "n": 20, "d": 8, "dv": 8}
    for form in (mask, np.where(mask, np.float32(0), np.float32(-np.inf))):
        want = check(rng, kind, np.float32, **sizes, mask=form, empty_is_nan=empty_is_nan)
        assert np.isnan(want[:, :, 1]).all() == empty_is_nan
    nothing = {**sizes, "n": 0}
    assert (check(rng, kind, np.float32, **nothing) == 0).all()


@DEVICES
@pytest.mark.parametrize("m", [3, 40])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("operand", ["q", "k", "v"])
def test_nan_and_infinity_spread_as_in_the_definition(
    kind: str, m: int, value: float, operand: str
) -> None:
    rng = np.random.default_rng(0)
    sizes = {"b": 1, "groups": 2, "kv_heads": 1, "m": m, "n": 20, "d": 8, "dv": 8}
    want = check(rng, kind, np.float32, **sizes, special=(operand, (0, 0, 1, 1), value))
    assert not np.isfinite(want).all()


@DEVICES
@TYPES
@given(data=st.data())
@settings(max_examples=12, deadline=None, derandomize=True)
def test_positions(kind: str, short: str, data: st.DataObject) -> None:
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    b, m = draw(st.integers(1, 2)), draw(st.sampled_from([1, 2, 9, 40]))
    n = draw(st.sampled_from([1, 40, 130] + [700, 1100] * (kind == "cpu")))
    # Before the first key, behind the last one, and far out of any range.
    beyond = st.sampled_from([-(1 << 31), -1, n, n + 5, (1 << 31) - 1])
    place_of = st.integers(0, n - 1) | beyond if draw(st.booleans()) else st.integers(0, n - 1)
    positions = np.array(draw(st.lists(place_of, min_size=b * m, max_size=b * m))).reshape(b, m)
    check(
        *(rng, kind, FLOATS[short]),
        **{"b": b, "groups": draw(st.integers(1, 3)), "kv_heads": draw(st.integers(1, 3))},
        **{"m": m, "n": n, "d": draw(st.sampled_from([4, 33])), "dv": 16},
        mask=rng.random((b, 1, m, n)) < 0.8 if draw(st.booleans()) else None,
        empty_is_nan=draw(st.booleans()),
        positions=positions.astype(draw(st.sampled_from([np.int32, np.int64]))),
        window=draw(st.sampled_from([0, 1, 20, 600])),
        softcap=draw(st.sampled_from([0.0, 3.0])),
    )


@DEVICES
@pytest.mark.parametrize("position", [1099, 1105, 1119, 1120, (1 << 31) - 1])
def test_windows_that_begin_behind_the_last_key(kind: str, position: int) -> None:
    sizes = {"b": 1, "groups": 3, "kv_heads": 1, "m": 40, "n": 1100, "d": 4, "dv": 4}
    positions = np.full((1, 40), position, np.int64)
    check(np.random.default_rng(0), kind, np.float32, **sizes, positions=positions, window=20)


def _run(q: Array, k: Array, v: Array, positions: Array, window: int, kind: str) -> Array:
    """Bits of the result for keys and values that lie as (b, n, h, d), like a cache."""
    operands = {"q": q, "k": k.transpose(0, 2, 1, 3), "v": v.transpose(0, 2, 1, 3)}
    out = np.zeros(q.shape, q.dtype)
    fields = {"scale": 0.1, "causal": 0, "empty_is_nan": 0, "window": window, "softcap": 0.0}
    run_kernel(
        "attention", {**operands, "mask": None, "positions": positions, "y": out}, fields, kind=kind
    )
    return out


@DEVICES
@pytest.mark.parametrize("window", [0, 600])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_results_depend_on_the_position_alone(kind: str, window: int, kv_heads: int) -> None:
    """Not on the cache's length, what is in it behind the position, the chunk of queries that one
    comes in, or other sequences of the batch.
    """
    rng = np.random.default_rng(window)
    length, b, m = (1300, 3, 70) if kind == "cpu" else (96, 2, 33)
    window = window if kind == "cpu" else window // 20
    dtype = FLOATS["bf16"]
    q = normal(rng, (b, 2 * kv_heads, m, 40), dtype)
    k, v = (normal(rng, (b, length, kv_heads, 40), dtype) for _ in range(2))
    positions = rng.integers(0, length, (b, m))
    positions[:, :3] = (0, length // 2, length - 1)
    together = _run(q, k, v, positions, window, kind)
    for i, j in ((0, 0), (1, 1), (b - 1, 2), (0, m - 1)):
        end = int(positions[i, j]) + 1
        keys, values = (np.full((1, end + 7, kv_heads, 40), np.nan, dtype) for _ in range(2))
        keys[:, :end], values[:, :end] = k[i, :end], v[i, :end]
        alone = _run(
            *(q[i : i + 1, :, j : j + 1].copy(), keys, values),
            *(positions[i : i + 1, j : j + 1].astype(np.int32), window, kind),
        )
        np.testing.assert_array_equal(
            alone[0, :, 0].view(np.uint16), together[i, :, j].view(np.uint16)
        )


def test_positions_of_another_dtype_are_refused() -> None:
    q = np.zeros((1, 1, 1, 4), np.float32)
    with pytest.raises(ProgramError, match="positions are int64 or int32"):
        _run(q, q, q, np.zeros((1, 1), np.float32), 0, "cpu")
