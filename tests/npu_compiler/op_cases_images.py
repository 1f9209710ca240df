"""Cases of padding and interpolation; see op_cases.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from tests.npu_compiler.op_cases import aten, case
from tests.npu_compiler.op_cases_index import DTYPES, values

SHAPE = (2, 5, 6, 7)


def _forms(function: Callable[[torch.Tensor], Any], x: torch.Tensor) -> list[torch.Tensor]:
    """Of row-major planes, of a padded image, and of permuted memory."""
    return [function(x), function(F.max_pool2d(x, 1)), function((x * 2).permute(0, 1, 3, 2))]


def _padding() -> None:
    functions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "reflect": lambda x: F.pad(x, (2, 3, 1, 0), mode="reflect"),
        "reflect_far": lambda x: F.pad(x, (5, 5, 5, 5), mode="reflect"),
        "replicate": lambda x: F.pad(x, (2, 3, 1, 9), mode="replicate"),
        "circular": lambda x: F.pad(x, (2, 3, 1, 6), mode="circular"),
        "reflect_one": lambda x: F.pad(x, (0, 0, 2, 1), mode="reflect"),
        "replicate_crop": lambda x: F.pad(x, (-1, 2, 1, -2), mode="replicate"),
        "constant_channels": lambda x: F.pad(x, (0, 0, 0, 0, 3, 1), value=float("inf")),
        "reflection_pad2d": lambda x: aten.reflection_pad2d.default(x, [1, 2, 3, 0]),
        "replication_pad2d": lambda x: aten.replication_pad2d.default(x, [1, 2, 3, 0]),
        "pad_circular": lambda x: aten._pad_circular.default(x, [1, 2, 3, 0]),
        "pad_nothing": lambda x: F.pad(x, (0, 0, 0, 0), mode="replicate") + 1,
    }
    for name, function in functions.items():
        case(f"pad_{name}", lambda x, f=function: _forms(f, x), SHAPE)
    for mode in ("reflect", "replicate", "circular"):
        case(f"pad_{mode}_1d", lambda x, m=mode: F.pad(x, (2, 1), mode=m), (2, 3, 5))
        case(
            f"pad_{mode}_3d",
            lambda x, m=mode: F.pad(x, (2, 1, 0, 1, 1, 2), mode=m),
            (2, 2, 3, 4, 5),
        )
    for n, shape in ((1, (3, 5)), (3, (2, 3, 4, 5))):
        for kind in ("reflection", "replication"):
            function = getattr(aten, f"{kind}_pad{n}d").default
            case(f"{kind}_pad{n}d", lambda x, f=function, n=n: f(x, [1, 2] * n), shape)
    for dtype in DTYPES:
        x = values(2, 3, 4, dtype=dtype)
        name = str(dtype).removeprefix("torch.")
        case(f"pad_{name}", lambda x: F.pad(x, (1, 2, 0, 1), value=1), x)
        if dtype.is_floating_point or dtype == torch.int64:
            case(f"pad_circular_{name}", lambda x: F.pad(x, (1, 2), mode="circular"), x)


def _interpolation() -> None:
    def both(mode: str, **options: Any) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda x: F.interpolate(x, mode=mode, **options)

    ways: dict[str, dict[str, Any]] = {
        "up": {"scale_factor": 2},
        "odd_factor": {"scale_factor": (1.7, 2.3)},
        "down": {"scale_factor": 0.5},
        "size": {"size": (11, 4)},
        "one": {"size": 1},
        "same": {"size": (6, 7)},
        "recomputed": {"scale_factor": 1.7, "recompute_scale_factor": True},
    }
    for mode in ("nearest", "nearest-exact", "bilinear", "bicubic"):
        for way, options in ways.items():
            plain = both(mode, **options)
            case(f"{mode}_{way}", lambda x, f=plain: _forms(f, x), SHAPE)
            if mode in ("bilinear", "bicubic"):
                aligned = both(mode, **options, align_corners=True)
                case(f"{mode}_{way}_aligned", lambda x, f=aligned: _forms(f, x), SHAPE)
    case("bilinear_wide", both("bilinear", scale_factor=2), (1, 70, 5, 4))
    case("nearest_almost_the_same", both("nearest", scale_factor=1.1), (1, 2, 3, 3))
    for mode in ("nearest", "nearest-exact", "linear"):
        case(f"{mode}_1d", both(mode, scale_factor=1.6), (2, 5, 7))
        case(f"{mode}_1d_size", both(mode, size=3), (2, 5, 7))
    case("linear_1d_aligned", both("linear", size=9, align_corners=True), (2, 5, 7))
    direct = {
        "upsample_nearest1d": ((2, 5, 7), ([9],)),
        "_upsample_nearest_exact1d": ((2, 5, 7), ([9],)),
        "upsample_linear1d": ((2, 5, 7), ([9], False)),
        "upsample_nearest2d": (SHAPE, ([9, 8],)),
        "_upsample_nearest_exact2d": (SHAPE, ([9, 8],)),
        "upsample_bilinear2d": (SHAPE, ([9, 8], True)),
        "upsample_bicubic2d": (SHAPE, ([9, 8], False, 1.5, 1.2)),
    }
    for name, (shape, args) in direct.items():
        function = getattr(aten, name).default
        case(f"{name}_default", lambda x, f=function, a=args: f(x, *a), shape)
    special = torch.tensor([1.0, float("nan"), -float("inf"), 2.0]).reshape(1, 1, 2, 2)
    for mode in ("nearest", "bilinear"):
        case(f"{mode}_special", both(mode, size=(3, 3)), special)


_padding()
_interpolation()
