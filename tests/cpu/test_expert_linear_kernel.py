"""The expert_linear kernel on the cpu and reference devices against float64: experts of one row and
of many, one and two parts, int8 weights, layouts, experts that do not exist.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_compiler.kernels.activation import ACTIVATIONS
from npu_runtime.errors import NpuError, ProgramError
from tests.cpu.single_dispatch import place, run_kernel
from tests.reference.activations import FUNCTIONS, NAMES
from tests.reference.layouts import FLOATS, Array, Placed, assert_close, normal
from tests.tolerances import tolerance

DEVICES = pytest.mark.parametrize("kind", ["cpu", "reference"])


def experts64(operands: dict[str, Array | None], activation: str) -> Array:
    """The kernel's definition in float64."""
    x, expert, w, w_scale = (operands[name] for name in ("x", "expert", "w", "w_scale"))
    assert x is not None and expert is not None and w is not None
    h = np.zeros((w.shape[1], *expert.shape, w.shape[2]))
    for e in range(len(w)):
        there = expert % len(w) == e
        rows = x.astype(np.float64)[there]
        h[:, there] = np.einsum("rk,pnk->prn", rows, w[e].astype(np.float64), optimize=True)
    if w_scale is not None:
        h = h * np.moveaxis(w_scale[expert], 2, 0)
    gate: Array = FUNCTIONS[activation](torch.from_numpy(h[0])).numpy()
    return gate if len(h) == 1 else gate * h[1]


def check(
    rng: np.random.Generator,
    kind: str,
    dtype: Any,
    *,
    tokens: int,
    choices: int,
    experts: int,
    n: int,
    k: int,
    parts: int = 1,
    int8: bool = False,
    activation: str = "none",
    index: Any = np.int64,
    repeated: bool = False,
    strided: float = 0.0,
    weights: tuple[str, ...] = (),
) -> None:
    """``repeated``: all choices of a token multiply the same row of x."""
    w = normal(rng, (experts, parts, n, k), np.float32) / np.sqrt(k or 1)
    scale = (rng.random((experts, parts, n)) / 80 / np.sqrt(k or 1)).astype(np.float32)
    operands: dict[str, Array | None] = {
        "x": normal(rng, (tokens, 1 if repeated else choices, k), dtype),
        # Negative ones count from the end.
        "expert": rng.integers(-experts, experts, (tokens, choices)).astype(index),
        "w": rng.integers(-128, 128, w.shape).astype(np.int8) if int8 else w.astype(dtype),
        "w_scale": scale if int8 else None,
    }
    out = Placed(rng, (tokens, choices, n), dtype)
    placed = {
        name: v if v is None or rng.random() >= strided else place(rng, v)
        for name, v in operands.items()
    }
    if repeated:
        for of in (operands, placed):
            x = of["x"]
            assert x is not None
            of["x"] = np.broadcast_to(x, (tokens, choices, k))
    fields = {"wrap": 1, "activation": ACTIVATIONS[activation]}
    run_kernel("expert_linear", {**placed, "y": out.array}, fields, weights=weights, kind=kind)
    assert_close(
        out.array, experts64(operands, activation), *tolerance(np.dtype(dtype).name, k + 2)
    )
    out.assert_surroundings_untouched()


@DEVICES
@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data())
def test_random(kind: str, data: st.DataObject) -> None:
    draw = data.draw
    parts = draw(st.integers(1, 2))
    check(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        kind,
        FLOATS[draw(st.sampled_from(sorted(FLOATS)))],
        tokens=draw(st.sampled_from([1, 2, 5, 20])),
        choices=draw(st.integers(1, 4)),
        experts=draw(st.sampled_from([1, 2, 7])),
        n=draw(st.one_of(st.integers(1, 40), st.integers(41, 200))),
        k=draw(st.one_of(st.integers(0, 70), st.sampled_from([128, 200, 259]))),
        parts=parts,
        int8=draw(st.booleans()),
        activation=draw(st.sampled_from(NAMES)) if parts == 2 else "none",
        index=draw(st.sampled_from([np.int32, np.int64])),
        repeated=draw(st.booleans()),
        strided=draw(st.sampled_from([0.0, 0.5])),
        weights=draw(st.sampled_from([(), ("w", "w_scale")])),
    )


@pytest.mark.parametrize("short", FLOATS)
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("tokens", [1, 20, 90])
def test_wide_layers(short: str, int8: bool, tokens: int) -> None:
    """Several stretches of columns, several blocks of an expert's rows, rows beyond a prefetch."""
    rng = np.random.default_rng(tokens)
    sizes = {"tokens": tokens, "choices": 3, "experts": 5, "n": 333, "k": 1100, "parts": 2}
    check(rng, "cpu", FLOATS[short], **sizes, int8=int8, activation="silu", repeated=True)


@pytest.mark.parametrize("short", FLOATS)
@pytest.mark.parametrize("rows", [40, 200])
def test_a_row_does_not_depend_on_other_rows(short: str, rows: int) -> None:
    rng = np.random.default_rng(1)
    w = normal(rng, (3, 1, 50, 130), FLOATS[short])
    fields = {"wrap": 0, "activation": 0}
    mine = normal(rng, (7, 1, 130), FLOATS[short])
    seen = set()
    for _ in range(4):
        x = normal(rng, (rows, 1, 130), FLOATS[short])
        expert = rng.integers(0, 3, (rows, 1))
        places = rng.permutation(rows)[:7]
        x[places], expert[places] = mine, 1
        y = np.zeros((rows, 1, 50), x.dtype)
        run_kernel("expert_linear", {"x": x, "expert": expert, "w": w, "y": y}, fields)
        seen.add(y[places].tobytes())
    assert len(seen) == 1


@DEVICES
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize(("wrap", "bad"), [(0, -1), (0, 4), (1, -5), (1, 4), (1, 2**31 - 1)])
def test_an_expert_that_does_not_exist_is_an_error(
    kind: str, index: Any, wrap: int, bad: int
) -> None:
    rng = np.random.default_rng(0)
    operands: dict[str, Array | None] = {
        "x": normal(rng, (3, 2, 16), np.float32),
        "expert": np.array([[0, 1], [bad, 2], [3, 0]], index),
        "w": normal(rng, (4, 1, 20, 16), np.float32),
        "y": np.zeros((3, 2, 20), np.float32),
    }
    with pytest.raises(NpuError, match=f"index {bad} is out of range for a dimension of 4"):
        run_kernel("expert_linear", operands, {"wrap": wrap, "activation": 0}, kind=kind)


@pytest.mark.parametrize(
    ("w", "scaled", "index", "message"),
    [
        (np.float16, False, np.int64, "weights must be of the dtype of x"),
        (np.int8, False, np.int64, "or int8 with scales"),
        (np.float32, True, np.int64, "or int8 with scales"),
        (np.float32, False, np.float32, "int64 or int32"),
    ],
)
def test_operands_of_other_dtypes_are_refused(
    w: Any, scaled: bool, index: Any, message: str
) -> None:
    operands: dict[str, Array | None] = {
        "x": np.zeros((1, 1, 16), np.float32),
        "expert": np.zeros((1, 1), index),
        "w": np.zeros((2, 1, 8, 16), w),
        "w_scale": np.ones((2, 1, 8), np.float32) if scaled else None,
        "y": np.zeros((1, 1, 8), np.float32),
    }
    with pytest.raises(ProgramError, match=message):
        run_kernel("expert_linear", operands, {"wrap": 1, "activation": 0})
