"""Cases of views, and of operators that rearrange or repeat elements; see op_cases.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from tests.npu_compiler.op_cases import aten, case
from tests.npu_compiler.op_cases_index import DTYPES, values

SHAPE = (2, 6, 4, 5)


def _image(x: torch.Tensor) -> torch.Tensor:
    return F.max_pool2d(x, 1)


def _flat(*results: Any) -> list[torch.Tensor]:
    return [t for r in results for t in (r if isinstance(r, (list, tuple)) else [r])]


def _forms(function: Callable[[torch.Tensor], Any], x: torch.Tensor) -> list[torch.Tensor]:
    """Of row-major memory, of an image (read again behind), and of permuted memory."""
    permuted = x.permute(0, 2, 1, 3).contiguous().permute(0, 2, 1, 3)
    return _flat(function(x), function(_image(x)) * 1, function(permuted * 2))


def _views() -> None:
    functions: dict[str, Callable[[torch.Tensor], Any]] = {
        "mT": lambda x: aten.mT.default(x) * 2,
        "movedim": lambda x: x.movedim(1, -1) * 2,
        "movedim_several": lambda x: x.movedim((0, 3), (2, 0)) * 2,
        "moveaxis": lambda x: aten.moveaxis.int(x, -1, 0) * 2,
        "moveaxis_several": lambda x: aten.moveaxis.intlist(x, [-1, 1], [0, 1]) * 2,
        "swapaxes": lambda x: x.swapaxes(0, -1) * 2,
        "swapdims": lambda x: x.swapdims(1, 2) * 2,
        "broadcast_to": lambda x: x[:, :1].broadcast_to(3, 2, 6, 4, 5) * 2,
        "diagonal": lambda x: x.diagonal(0, 2, 3) * 2,
        "diagonal_above": lambda x: x.diagonal(2, -1, 1) * 2,
        "diagonal_below": lambda x: x.diagonal(-2, 1, 2) * 2,
        "diagonal_outside": lambda x: x.diagonal(-9, 0, 1) * 2,
        "unfold": lambda x: x.unfold(1, 3, 2) * 2,
        "unfold_overlapping": lambda x: x.unfold(-1, 4, 1).sum(-1),
        "as_strided": lambda x: x.as_strided((3, 4), (7, 2), 5) * 2,
        "as_strided_overlapping": lambda x: x.as_strided((5, 5), (1, 1)) * 2,
        "as_strided_of_image": lambda x: (_image(x) * 2).as_strided((2, 120), (120, 1)) + 1,
        "tensor_split": lambda x: [p * 2 for p in x.tensor_split(4, 1)],
        "tensor_split_indices": lambda x: [
            p * 2 for p in aten.tensor_split.indices(x, [1, -2, 9], 1)
        ],
        "unsafe_split": lambda x: [p * 2 for p in torch.unsafe_split(x, 4, 1)],
        "unsafe_split_with_sizes": lambda x: [
            p * 2 for p in torch.unsafe_split_with_sizes(x, [2, 4], 1)
        ],
        "unsafe_chunk": lambda x: [p * 2 for p in torch.unsafe_chunk(x, 4, 1)],
        "reshape_as": lambda x: aten.reshape_as.default(x, x.transpose(1, 2)) * 2,
        "ravel": lambda x: aten.ravel.default(x.transpose(0, 1)) * 2,
        "atleast": lambda x: [
            aten.atleast_1d.default(x.sum()) + 1,
            aten.atleast_2d.default(x[0, 0, 0]) + 1,
            aten.atleast_3d.default(x[0, 0]) + 1,
        ],
        "real": lambda x: aten.real.default(x) * 2,
        "resolve": lambda x: aten.resolve_neg.default(aten.resolve_conj.default(x)) * 2,
    }
    for name, function in functions.items():
        case(name, lambda x, f=function: _flat(f(x), f(_image(x))), SHAPE)


def _rearranged() -> None:
    functions: dict[str, Callable[[torch.Tensor], Any]] = {
        "repeat": lambda x: x.repeat(2, 1, 3, 1),
        "repeat_new": lambda x: x.repeat(2, 1, 1, 2, 3),
        "repeat_none": lambda x: x.repeat(1, 0, 1, 1),
        "repeat_of_one": lambda x: x[:, :1].repeat(1, 5, 1, 1) + 1,
        "tile": lambda x: torch.tile(x, (2, 3)),
        "tile_more": lambda x: torch.tile(x[0], (2, 1, 2, 3)),
        "repeat_interleave": lambda x: x.repeat_interleave(3, 1),
        "repeat_interleave_last": lambda x: x.repeat_interleave(2, dim=-1),
        "pixel_unshuffle": lambda x: F.pixel_unshuffle(x[..., :4], 2),
        "channel_shuffle": lambda x: F.channel_shuffle(x, 3),
        "roll": lambda x: x.roll(2, 1),
        "roll_two": lambda x: x.roll((-1, 7), (2, 3)),
        "roll_far": lambda x: x.roll(100, -1),
        "roll_flat": lambda x: x.roll(7),
        "roll_empty": lambda x: x[:, :0].roll(1, 1),
        "flip": lambda x: x.flip(1),
        "flip_two": lambda x: x.flip(-1, 0),
        "flip_three": lambda x: x.flip(0, 1, 2),
        "flip_none": lambda x: x[:, :1].flip(1) + 1,
        "rot90": lambda x: x.rot90(1, (2, 3)),
        "rot90_twice": lambda x: x.rot90(2, (1, 3)),
        "rot90_back": lambda x: x.rot90(-1, (0, 1)),
        "rot90_not": lambda x: x.rot90(4, (0, 1)) + 1,
    }
    for name, function in functions.items():
        case(name, lambda x, f=function: _forms(f, x), SHAPE)
    case("native_channel_shuffle", lambda x: aten.native_channel_shuffle.default(x, 2), SHAPE)
    case(
        "im2col", lambda x: _forms(lambda t: F.unfold(t, (2, 3), (2, 1), (1, 2), (1, 2)), x), SHAPE
    )
    case("im2col_3d", lambda x: F.unfold(x, 2), (3, 4, 5))
    for name in ("hstack", "vstack", "dstack", "column_stack"):
        join = getattr(torch, name)
        for shape in ((3,), (3, 4), (2, 3, 4)):
            case(
                f"{name}_{len(shape)}d", lambda a, b, f=join: f([a * 2, b, a + 1]) + 1, shape, shape
            )
    case("hstack_0d", lambda a: [torch.hstack([a, a * 2]), torch.vstack([a, a * 3])], ())
    case("row_stack", lambda a: aten.row_stack.default([a, a * 2]), (3,))
    case("concat", lambda a: aten.concat.default([a, a * 2], 1), (3, 2))
    case("concatenate", lambda a: aten.concatenate.default([a, a * 2], 1), (3, 2))
    case("pixel_shuffle", lambda x: F.pixel_shuffle(x, 3), (2, 18, 2, 3))
    case("pixel_shuffle_image", lambda x: F.pixel_shuffle(_image(x), 2), (2, 72, 2, 3))
    case("pixel_shuffle_3d", lambda x: F.pixel_shuffle(x, 2), (8, 2, 3))
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        x = values(3, 4, dtype=dtype)
        case(f"repeat_{name}", lambda x: x.repeat(2, 2), x)
        case(f"roll_{name}", lambda x: x.roll(1, 0), x)
        case(f"flip_{name}", lambda x: x.flip(1), x)
        case(f"transpose_{name}", lambda x: x.t().contiguous().view(2, 6), x)


_views()
_rearranged()
