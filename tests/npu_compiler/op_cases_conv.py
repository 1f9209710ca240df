"""Cases of convolutions: 1-D, unbatched, transposed, dynamic weights; see op_cases.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from tests.npu_compiler.harness import images
from tests.npu_compiler.op_cases import aten, case

FUNCTIONS = {
    "conv1d": F.conv1d,
    "conv2d": F.conv2d,
    "conv_transpose1d": F.conv_transpose1d,
    "conv_transpose2d": F.conv_transpose2d,
}


def _conv(
    kind: str, name: str, x: Sequence[int], w: Sequence[int], bias: bool = True, **kw: Any
) -> None:
    """With constant weights, behind an image op (a padded channels_last input) and with weights
    that are inputs.
    """
    function = FUNCTIONS[kind]
    channels = w[1] * kw.get("groups", 1) if "transpose" in kind else w[0]
    buffers = {"w": images(*w, seed=5, scale=0.3)}
    if bias:
        buffers["b"] = images(channels, seed=6)
    label = f"{kind}_{name}"
    case(label, lambda m, x: function(x, m.w, m.b if bias else None, **kw), x, **buffers)
    if len(x) == 4:
        case(
            f"{label}_image",
            lambda m, x: function(F.max_pool2d(x, 1), m.w, m.b if bias else None, **kw) * 2,
            x,
            **buffers,
        )
    case(f"{label}_dynamic", lambda x, w: function(x, w, **kw), x, w)


def _one_dimension() -> None:
    _conv("conv1d", "plain", (2, 3, 20), (5, 3, 3))
    _conv("conv1d", "wide", (2, 40, 11), (70, 40, 1), bias=False)
    _conv("conv1d", "stride", (2, 20, 15), (6, 20, 4), stride=3, padding=2)
    _conv("conv1d", "dilation", (2, 3, 20), (5, 3, 3), dilation=4, padding=4)
    _conv("conv1d", "same", (2, 5, 12), (4, 5, 4), padding="same", dilation=2)
    _conv("conv1d", "groups", (2, 6, 12), (9, 2, 3), groups=3)
    _conv("conv1d", "depthwise", (2, 20, 12), (20, 1, 3), groups=20, padding=1)
    _conv("conv1d", "unbatched", (3, 12), (5, 3, 3))
    case(
        "conv1d_chain",
        lambda m, x: F.conv1d(F.relu(F.conv1d(x, m.a, padding=1)), m.b).permute(0, 2, 1) * 2,
        (2, 20, 12),
        a=images(30, 20, 3, scale=0.2),
        b=images(7, 30, 3, scale=0.2),
    )


def _two_dimensions() -> None:
    _conv("conv2d", "unbatched", (3, 8, 9), (5, 3, 3, 3), padding=1)
    _conv("conv2d", "multiplier", (2, 5, 8, 8), (15, 1, 3, 3), groups=5, stride=2)
    _conv("conv2d", "tall", (1, 4, 9, 1), (5, 4, 3, 1))
    special = images(1, 2, 4, 4)
    special[0, 0, 1, 1] = float("inf")
    special[0, 1, 2, 2] = float("nan")
    case("conv2d_special", lambda m, x: F.conv2d(x, m.w), special, w=images(3, 2, 2, 2))


def _transposed() -> None:
    kind = "conv_transpose2d"
    _conv(kind, "plain", (2, 3, 5, 6), (3, 5, 3, 3))
    _conv(kind, "upsample", (2, 20, 5, 4), (20, 7, 4, 4), stride=2, padding=1)
    _conv(kind, "two", (2, 20, 5, 4), (20, 70, 2, 2), stride=2, bias=False)
    _conv(kind, "output", (2, 3, 4, 5), (3, 5, 3, 3), stride=2, padding=1, output_padding=1)
    _conv(kind, "uneven", (2, 3, 4, 5), (3, 4, 5, 2), stride=(3, 1), padding=(0, 1))
    _conv(kind, "gaps", (2, 3, 4, 4), (3, 4, 2, 1), stride=3, output_padding=2)
    _conv(kind, "cropped", (2, 3, 6, 6), (3, 4, 3, 3), padding=2)
    _conv(kind, "dilated", (2, 3, 4, 5), (3, 4, 3, 3), dilation=(2, 3), padding=2)
    _conv(kind, "dilated_stride", (2, 3, 4, 5), (3, 4, 3, 3), stride=2, dilation=(3, 2))
    _conv(kind, "dilated_six", (1, 3, 4, 4), (3, 4, 3, 4), stride=(4, 6), dilation=(6, 4))
    _conv(kind, "groups", (2, 6, 4, 4), (6, 3, 3, 3), stride=2, groups=3)
    _conv(kind, "depthwise", (2, 20, 4, 4), (20, 1, 3, 3), stride=2, groups=20)
    _conv(kind, "unbatched", (3, 4, 4), (3, 4, 3, 3), stride=2)
    kind = "conv_transpose1d"
    _conv(kind, "plain", (2, 3, 7), (3, 5, 3))
    _conv(kind, "upsample", (2, 20, 7), (20, 10, 8), stride=4, padding=2)
    _conv(kind, "output", (2, 20, 7), (20, 10, 3), stride=2, output_padding=1, groups=2)
    _conv(kind, "unbatched", (3, 7), (3, 5, 4), stride=3)
    for transposed in (False, True):
        case(
            f"convolution_transposed_{transposed}",
            lambda m, x, t=transposed: aten.convolution.default(
                x, m.w, m.b, [2, 2], [1, 1], [1, 1], t, [0, 0], 1
            ),
            (2, 5, 6, 6),
            w=images(5, 5, 3, 3),
            b=images(5),
        )
        case(
            f"_convolution_{transposed}",
            lambda m, x, t=transposed: aten._convolution.default(
                x, m.w, m.b, [2], [1], [1], t, [0], 1, False, False, True, True
            ),
            (2, 5, 6),
            w=images(5, 5, 3),
            b=images(5),
        )
    case(
        "_convolution_deprecated",
        lambda m, x: aten._convolution.deprecated(
            x, m.w, m.b, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, False, False, True
        ),
        (2, 5, 6, 6),
        w=images(5, 5, 3, 3),
        b=images(5),
    )
    case(
        "conv_transpose_residual",
        lambda m, x, r: F.relu(F.conv_transpose2d(x, m.w, m.b, 2) + r) * 2,
        (2, 5, 4, 4),
        (2, 7, 8, 8),
        w=images(5, 7, 2, 2),
        b=images(7),
    )


def _weight_norm() -> None:
    v, g = images(7, 5, 3), images(7, 1, 1)
    case("weight_norm", lambda m, x: torch._weight_norm(m.v, m.g, 0) * x, (3,), v=v, g=g)
    case("weight_norm_dim", lambda m, x: torch._weight_norm(m.v, m.g, 2) * x, (3,),
         v=v, g=images(1, 1, 3))  # fmt: skip
    case("weight_norm_whole", lambda m, x: torch._weight_norm(m.v, m.g, -1) * x, (3,),
         v=v, g=images(1))  # fmt: skip
    interface = aten._weight_norm_interface.default
    case("weight_norm_interface", lambda m, x: interface(m.v, m.g, 0)[0] * x, (3,), v=v, g=g)
    case(
        "weight_norm_output", lambda m, x: (torch._weight_norm(m.v, m.g, 0), x + 1), (3,), v=v, g=g
    )


for _family in (_one_dimension, _two_dimensions, _transposed, _weight_norm):
    _family()
