"""Attention's schedules on the reference device, in both thread orders, against the kernel's own
launch: heads that share keys, masks, positions, windows, soft caps, queries that see nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npu_compiler.kernels import KERNELS
from tests.reference.layouts import FLOATS, Array, normal
from tests.reference.native_library import run_kernel
from tests.reference.test_reference_schedules import ORDERS, aligned, check

ATTENTION = KERNELS["attention"]
# Queries, keys, heads of queries and of keys, widths of keys and of values, and what is there.
Case = tuple[int, int, int, int, int, int, dict[str, Any]]

FEW: dict[str, Case] = {
    "one query, shared keys": (1, 150, 6, 2, 32, 32, {"positions": [130]}),
    "rows of two blocks": (5, 130, 6, 2, 16, 24, {"positions": [3, 60, 64, 65, 129]}),
    "nothing seen": (2, 140, 4, 4, 16, 16, {"positions": [-1, 3], "batch": 2}),
    "window": (2, 200, 2, 1, 16, 16, {"positions": [150, 199], "window": 70}),
    "float mask and soft cap": (3, 129, 4, 2, 16, 16, {"mask": "float", "softcap": 2.0}),
    "wide heads": (1, 130, 2, 1, 256, 200, {}),
    "few keys": (3, 60, 3, 1, 16, 16, {"positions": [40, 41, 42]}),
    "all masked": (2, 130, 2, 2, 16, 16, {"mask": "bool", "empty_is_nan": 1}),
}
FEW_LONG: dict[str, Case] = {
    "long cache": (1, 1290, 6, 2, 16, 16, {"positions": [1230]}),
    "many rows": (9, 190, 10, 1, 16, 24, {"positions": list(range(120, 129)), "window": 70}),
    "rows of two blocks, masks": (5, 300, 12, 1, 16, 16, {"mask": "bool", "softcap": 2.0}),
    "wide heads, long": (2, 1281, 2, 1, 256, 200, {"positions": [-1, 70], "empty_is_nan": 1}),
}
MANY: dict[str, Case] = {
    "causal": (70, 70, 2, 1, 32, 24, {"causal": 1}),
    "prompt in a cache": (33, 120, 6, 2, 16, 72, {"positions": list(range(60, 93)), "window": 33}),
    "masks": (49, 67, 2, 1, 16, 16, {"mask": "bool", "batch": 2, "softcap": 3.0}),
    "wide heads of many": (33, 66, 3, 1, 136, 256, {"mask": "float"}),
    "many see nothing": (34, 66, 3, 1, 16, 16, {"positions": [-1] * 33 + [2]}),
    "queries of many heads, few keys": (97, 20, 1, 1, 16, 16, {"positions": [15] * 97}),
}
TILES_OVER_PARTS: dict[str, Case] = {
    "prompt in a long cache": (33, 1100, 6, 1, 16, 16, {"positions": list(range(500, 533))}),
    "wide values": (50, 1030, 2, 1, 16, 144, {"window": 600, "causal": 0, "mask": "bool"}),
}


def operands_of(short: str, case: Case) -> tuple[dict[str, Array | None], dict[str, Any]]:
    """Operands and fields; keys that nobody sees are NaN."""
    m, n, heads, kv_heads, d, v_d, options = case
    batch = options.get("batch", 1)
    rng = np.random.default_rng(m * 1000 + n)
    dtype = FLOATS[short]

    def made(h: int, rows: int, width: int) -> Array:
        # As a cache has it: position by position, then by head.
        rows_first = aligned(normal(rng, (batch, rows, h, width), dtype))
        return rows_first.transpose(0, 2, 1, 3)

    positions = options.get("positions")
    mask = {
        None: None,
        "float": normal(rng, (1, heads, m, n), np.float32),
        "bool": rng.random((1, 1, m, n)) < 0.7,
    }[options.get("mask")]
    if mask is not None:
        if mask.dtype == bool:
            mask[..., 0, :] = False
        mask = np.broadcast_to(mask, (batch, heads, m, n))
    k, v = made(kv_heads, n, d), made(kv_heads, n, v_d)
    if positions is not None:
        for unseen in (slice(max(positions) + 1, n), slice(0, max(0, n - 130))):
            if unseen.start or options.get("window"):
                k[:, :, unseen] = v[:, :, unseen] = np.nan
    operands: dict[str, Array | None] = {
        "q": made(heads, m, d),
        "k": k,
        "v": v,
        "mask": mask,
        "positions": None if positions is None else np.tile(np.array(positions), (batch, 1)),
        "y": np.zeros((batch, m, heads, v_d), dtype).transpose(0, 2, 1, 3),
    }
    fields = {
        "scale": d**-0.5,
        "causal": options.get("causal", 0),
        "empty_is_nan": options.get("empty_is_nan", 0),
        "window": options.get("window", 0),
        "softcap": options.get("softcap", 0.0),
    }
    return operands, fields


@ORDERS
@pytest.mark.parametrize(
    ("schedule", "name", "short"),
    [
        *(("group", name, short) for name in FEW for short in ("f32", "bf16")),
        *(("split", name, "f32") for name in FEW_LONG),
        *(("tiles", name, short) for name in MANY for short in ("f32", "f16")),
        *(("tiles_split", name, "f16") for name in TILES_OVER_PARTS),
    ],
)
def test_computes_what_the_kernel_does(schedule: str, name: str, short: str, reverse: bool) -> None:
    case = {**FEW, **FEW_LONG, **MANY, **TILES_OVER_PARTS}[name]
    operands, fields = operands_of(short, case)
    check(ATTENTION, operands, fields, schedule, 64, reverse)


def lengthened(operands: dict[str, Array | None], more: int) -> dict[str, Array | None]:
    """The same twice in a batch, with ``more`` keys behind, which are NaN."""
    longer: dict[str, Array | None] = {}
    for name, array in operands.items():
        assert array is not None or name == "mask"
        longer[name] = None if array is None else aligned(np.concatenate([array, array]))
    for name in ("k", "v"):
        array = longer[name]
        assert array is not None
        unseen = np.full((*array.shape[:2], more, array.shape[3]), np.nan, array.dtype)
        longer[name] = aligned(np.concatenate([array, unseen], 2))
    return longer


@pytest.mark.parametrize(
    ("m", "n", "position", "more", "schedules"),
    [
        (1, 140, 90, 70, ("group", "group")),
        (3, 1280, 1200, 1, ("group", "split")),
        (2, 140, 60, 1141, ("group", "split")),
        (110, 120, 10, 70, ("tiles", "tiles")),
    ],
)
def test_sums_do_not_depend_on_what_else_is_there(
    m: int, n: int, position: int, more: int, schedules: tuple[str, str]
) -> None:
    """More keys behind and more batch elements: the same bits."""
    positions = list(range(position, position + m))
    case: Case = (m, n, 2, 1, 16, 24, {"positions": positions})
    operands, fields = operands_of("f32", case)
    longer = lengthened(operands, more)
    run_kernel(ATTENTION, operands, fields, schedule=schedules[0])
    run_kernel(ATTENTION, longer, fields, schedule=schedules[1])
    one, two = operands["y"], longer["y"]
    assert one is not None and two is not None
    assert np.array_equal(two[:1], one)
    assert np.array_equal(two[1:], one)
