"""Maximum pooling with places on the cpu and reference devices, in random layouts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.cpu.single_dispatch import place, run_kernel
from tests.reference.layouts import FLOATS, Placed, normal

DEVICES = pytest.mark.parametrize("kind", ["cpu", "reference"])
TYPES = pytest.mark.parametrize("short", FLOATS)


@DEVICES
@TYPES
@pytest.mark.parametrize("seed", range(6), ids=lambda s: f"seed{s}")
def test_max_pool2d_with_indices(kind: str, short: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pick = lambda *choices: choices[rng.integers(len(choices))]  # noqa: E731
    kernel, dilation = (pick(2, 3), pick(1, 2, 3)), (pick(1, 2), pick(1, 2))
    stride, pad = (
        (pick(1, 2), pick(1, 2, 3)),
        tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel),
    )
    shape = (pick(1, 2), pick(1, 5, 300), pick(7, 9), pick(6, 11))
    x = normal(rng, shape, np.float32).round().astype(FLOATS[short])
    x[0, 0, 1, 1:4] = np.nan
    x[0, 0, 5] = -np.inf
    want, places = F.max_pool2d(
        torch.from_numpy(x.astype(np.float32)), kernel, stride, pad, dilation, return_indices=True
    )
    y, index = Placed(rng, tuple(want.shape), x.dtype), Placed(rng, tuple(want.shape), np.int64)
    fields = {
        **{"kh": kernel[0], "kw": kernel[1], "stride_h": stride[0], "stride_w": stride[1]},
        **{"pad_h": pad[0], "pad_w": pad[1], "dilation_h": dilation[0], "dilation_w": dilation[1]},
    }
    operands = {"x": place(rng, x), "y": y.array, "index": index.array}
    run_kernel("max_pool2d_with_indices", operands, fields, kind=kind)
    np.testing.assert_array_equal(y.array.astype(np.float32), want.numpy())
    np.testing.assert_array_equal(index.array, places.numpy())
    y.assert_surroundings_untouched()
    index.assert_surroundings_untouched()


@DEVICES
@TYPES
@pytest.mark.parametrize("indices", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (3, 4), (9, 2)])
def test_adaptive_max_pool2d(kind: str, short: str, indices: bool, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(size[1])
    x = normal(rng, (2, 20, 7, 6), np.float32).round().astype(FLOATS[short])
    x[1, 3, 2, 2] = np.nan
    want, places = F.adaptive_max_pool2d(
        torch.from_numpy(x.astype(np.float32)), size, return_indices=True
    )
    y, index = Placed(rng, tuple(want.shape), x.dtype), Placed(rng, tuple(want.shape), np.int64)
    operands = {"x": place(rng, x), "y": y.array, "index": index.array if indices else None}
    run_kernel("adaptive_max_pool2d", operands, {}, kind=kind)
    np.testing.assert_array_equal(y.array.astype(np.float32), want.numpy())
    if indices:
        np.testing.assert_array_equal(index.array, places.numpy())
    y.assert_surroundings_untouched()
