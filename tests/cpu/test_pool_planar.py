"""Pooling of images whose rows are contiguous (planes), against PyTorch in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.cpu.single_dispatch import run_kernel
from tests.reference.layouts import FLOATS, Placed, assert_close, normal
from tests.tolerances import tolerance


@pytest.mark.parametrize("short", FLOATS)
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("seed", range(6), ids=lambda s: f"seed{s}")
def test_planes(short: str, average: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pick = lambda *choices: choices[rng.integers(len(choices))]  # noqa: E731
    kernel, stride = (pick(1, 2, 3), pick(1, 2, 5)), (pick(1, 2), pick(1, 2, 4))
    pad = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
    dilation = (1, 1) if average else (pick(1, 2), pick(1, 3))
    x = normal(rng, (2, pick(1, 5), pick(5, 9), pick(13, 130)), FLOATS[short])
    x[0, 0, 1, 2:4] = np.nan
    x[1, 0, 2, 5] = np.inf
    x[1, 0, 3] = -np.inf
    x64 = torch.from_numpy(x.astype(np.float64))
    counted, ceil_mode = bool(rng.integers(2)), bool(rng.integers(2))
    if average:
        want = F.avg_pool2d(x64, kernel, stride, pad, ceil_mode, counted)
    else:
        want = F.max_pool2d(x64, kernel, stride, pad, dilation, ceil_mode)
    out = Placed(rng, tuple(want.shape), x.dtype)
    fields = {
        **{"kh": kernel[0], "kw": kernel[1], "stride_h": stride[0], "stride_w": stride[1]},
        **{"pad_h": pad[0], "pad_w": pad[1]},
    }
    if average:
        fields |= {"count_include_pad": int(counted), "divisor_override": 0}
    else:
        fields |= {"dilation_h": dilation[0], "dilation_w": dilation[1]}
    name = "avg_pool2d" if average else "max_pool2d"
    run_kernel(name, {"x": x, "y": out.array}, fields)
    assert_close(out.array, want.numpy(), *tolerance(x.dtype.name, kernel[0] * kernel[1]))
    out.assert_surroundings_untouched()
