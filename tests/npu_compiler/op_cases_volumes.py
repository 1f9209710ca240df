"""Cases of 3-D convolutions and of differences; see op_cases.py."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from tests.npu_compiler.harness import images
from tests.npu_compiler.op_cases import case


def _conv3d(
    name: str, x: tuple[int, ...], w: tuple[int, ...], *args: Any, bias: bool = True
) -> None:
    if bias:
        case(f"conv3d_{name}", lambda m, v: F.conv3d(v, m.w, m.b, *args), x,
             w=images(*w), b=images(w[0]))  # fmt: skip
    else:
        case(f"conv3d_{name}", lambda m, v: F.conv3d(v, m.w, None, *args), x, w=images(*w))


def _volumes() -> None:
    x = (2, 5, 6, 7, 8)
    _conv3d("plain", x, (7, 5, 3, 3, 3))
    _conv3d("padded", x, (7, 5, 3, 3, 3), 1, 1, bias=False)
    _conv3d("patches", (1, 3, 4, 8, 8), (66, 3, 2, 4, 4), (2, 4, 4))
    _conv3d("strides", x, (7, 5, 2, 3, 1), (3, 1, 2), (1, 2, 0))
    _conv3d("dilated", x, (7, 5, 3, 2, 3), (2, 1, 1), (2, 1, 0), (2, 3, 1))
    _conv3d("groups", (2, 6, 4, 5, 5), (9, 2, 2, 3, 3), 1, 1, 1, 3)
    _conv3d("depthwise", (2, 6, 4, 5, 5), (6, 1, 3, 3, 3), 1, 1, 1, 6)
    _conv3d("far_padding", (1, 2, 2, 3, 3), (3, 2, 2, 1, 1), (1, 1, 1), (4, 0, 0), (3, 1, 1))
    _conv3d("unbatched", (5, 6, 7, 8), (7, 5, 3, 3, 3), 2, 1)
    _conv3d("same", x, (7, 5, 2, 3, 4), 1, "same", (2, 1, 1))
    _conv3d("valid", x, (7, 5, 2, 3, 4), 2, "valid")
    _conv3d("no_batch", (0, 5, 6, 7, 8), (7, 5, 3, 3, 3))
    case("conv3d_dynamic", lambda v, w, b: F.conv3d(v * 2, w.flip(0), b + 1, 2),
         x, (7, 5, 3, 3, 3), (7,))  # fmt: skip
    case("conv3d_permuted", lambda m, v: F.conv3d(v.permute(0, 4, 1, 2, 3), m.w).relu() + 1,
         (2, 6, 7, 8, 5), w=images(7, 5, 3, 3, 3))  # fmt: skip
    case("conv3d_rank_5_views", lambda m, v: F.conv3d(v, m.w).transpose(1, 2).flatten(2).sum(-1),
         x, w=images(7, 5, 3, 3, 3))  # fmt: skip


def _differences() -> None:
    x = (3, 6)
    case("diff", torch.diff, x)
    case("diff_twice", lambda v: torch.diff(v, 2), x)
    case("diff_first_dim", lambda v: torch.diff(v, dim=0), x)
    case("diff_to_nothing", lambda v: torch.diff(v, 9), x)
    case("diff_image", lambda v: torch.diff(F.max_pool2d(v, 1), dim=1), (2, 5, 6, 7))
    case("diff_prepend", lambda v, p: torch.diff(v, prepend=p), x, (3, 2))
    case("diff_both", lambda v, p, a: torch.diff(v, 3, 0, p, a), x, (1, 6), (2, 6))
    case("diff_ints", torch.diff, torch.tensor([[2**40, 5, -(2**62)], [7, 7, 8]]))
    case("diff_small_ints", torch.diff, torch.tensor([3, 250, 7], dtype=torch.uint8))
    case("diff_bools", lambda v: torch.diff(v, 2), torch.tensor([True, False, False, True, True]))
    case("diff_positions", lambda v: torch.diff(v, prepend=v[:, :1] - 1, dim=-1) != 1,
         torch.tensor([[0, 1, 2, 0, 1], [0, 1, 2, 3, 4]]))  # fmt: skip


_volumes()
_differences()
