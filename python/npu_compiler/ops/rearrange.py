"""Operators that write the elements of one tensor in another order or several times: repeat, roll,
flip, pixel_shuffle and their like. Each is a copy where strides cannot show the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from npu_compiler.graph import Node
from npu_compiler.ops.arguments import axis, integer, integers, pair, require, same_shape
from npu_compiler.ops.embedding import select_along
from npu_compiler.ops.record import COPYABLE, OpRecord
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


def _write(lowering: Lowering, node: Node, x: View) -> None:
    """The result is ``x`` reshaped to the declared shape: a view, or one copy."""
    found = x.reshape(node.output.shape)
    if found is not None:
        lowering.alias(node.output, found)
        return
    image = len(node.output.shape) == 4 and lowering.is_image(next(node.inputs()))
    out = lowering.define(node.output, image=image, strided=True)
    whole = View(out.storage, out.shape, out.strides, out.offset)
    split = whole.reshape(x.shape)
    if split is None:
        # x has dimensions that the result merges: they are brought together first.
        lowering.copy(lowering.contiguous(x, node).reshape(out.shape) or x, out, node)
        return
    lowering.copy(x, split, node, name="+".join(node.origins))
    if out.pad is not None:
        lowering.zero_padding(out, node, f"{'+'.join(node.origins)}.padding")


def _rearranged(op_type: str, signature: str, show: Callable[[Node, View], View]) -> OpRecord:
    """An operator whose result is ``show(node, x)``, reshaped."""

    def check(node: Node) -> str | None:
        from npu_compiler.ops.record import plain_view

        x = node.tensor("self")
        require(x.dtype == node.output.dtype, f"the result must be {x.dtype}")
        shown = show(node, plain_view(x))
        require(
            shown.numel == node.output.numel,
            f"the IR declares {list(node.output.shape)}, the op gives {shown.numel} elements",
        )
        return None

    def lower(lowering: Lowering, node: Node) -> None:
        _write(lowering, node, show(node, lowering.read(node.tensor("self"))))

    return OpRecord(op_type, signature, lower=lower, check=check, dtypes=COPYABLE)


def _repeated(node: Node, x: View, counts: Sequence[int]) -> View:
    """Every dimension as (how often, itself)."""
    require(min(counts, default=1) >= 0, f"repeats must not be negative, got {list(counts)}")
    rank = max(len(counts), len(x.shape))
    counts = [1] * (rank - len(counts)) + list(counts)
    for _ in range(rank - len(x.shape)):
        x = x.insert(0)
    same_shape(node, [n * c for n, c in zip(x.shape, counts, strict=True)])
    for d in range(rank - 1, -1, -1):
        x = x.insert(d)
    shape = [n for pair in zip(counts, x.shape[1::2], strict=True) for n in pair]
    return x.expand(shape)


def _repeat(node: Node, x: View) -> View:
    counts = integers(node.args["repeats"], "repeats")
    require(len(counts) >= len(x.shape), f"repeats {list(counts)} are too few for {list(x.shape)}")
    return _repeated(node, x, counts)


def _tile(node: Node, x: View) -> View:
    return _repeated(node, x, integers(node.args["dims"], "dims"))


def _repeat_interleave(node: Node, x: View) -> View:
    count = integer(node.args["repeats"], "repeats")
    require(count >= 0, f"repeats must not be negative, got {count}")
    require(node.args["dim"] is not None, "dim must be given: the flattened form is not supported")
    x = x if x.shape else x.insert(0)
    dim = axis(node.args["dim"], len(x.shape))
    same_shape(node, (*x.shape[:dim], x.shape[dim] * count, *x.shape[dim + 1 :]))
    return x.insert(dim + 1).expand((*x.shape[: dim + 1], count, *x.shape[dim + 1 :]))


def _split_dim(x: View, dim: int, sizes: Sequence[int]) -> View:
    strides = [x.strides[dim] * prod(sizes[i + 1 :]) for i in range(len(sizes))]
    return View(
        x.storage,
        (*x.shape[:dim], *sizes, *x.shape[dim + 1 :]),
        (*x.strides[:dim], *strides, *x.strides[dim + 1 :]),
        x.offset,
    )


def _pixel_shuffle(node: Node, x: View) -> View:
    factor, rank = integer(node.args["upscale_factor"], "upscale_factor"), len(x.shape)
    require(rank >= 3 and factor >= 1, f"{list(x.shape)} cannot be upscaled by {factor}")
    c, h, w = x.shape[-3:]
    require(c % factor**2 == 0, f"{c} channels are no multiple of {factor}^2")
    same_shape(node, (*x.shape[:-3], c // factor**2, h * factor, w * factor))
    split = _split_dim(x, rank - 3, (c // factor**2, factor, factor))
    at = rank - 3
    return split.permute((*range(at), at, at + 3, at + 1, at + 4, at + 2))


def _pixel_unshuffle(node: Node, x: View) -> View:
    factor, rank = integer(node.args["downscale_factor"], "downscale_factor"), len(x.shape)
    require(rank >= 3 and factor >= 1, f"{list(x.shape)} cannot be downscaled by {factor}")
    c, h, w = x.shape[-3:]
    require(h % factor == 0 and w % factor == 0, f"{h} x {w} is no multiple of {factor}")
    same_shape(node, (*x.shape[:-3], c * factor**2, h // factor, w // factor))
    split = _split_dim(x, rank - 1, (w // factor, factor))
    split = _split_dim(split, rank - 2, (h // factor, factor))
    at = rank - 3
    return split.permute((*range(at), at, at + 2, at + 4, at + 1, at + 3))


def _channel_shuffle(node: Node, x: View) -> View:
    groups = integer(node.args["groups"], "groups")
    require(len(x.shape) >= 3 and groups >= 1, f"{list(x.shape)} has no {groups} channel groups")
    require(x.shape[1] % groups == 0, f"{x.shape[1]} channels are no multiple of {groups}")
    same_shape(node, x.shape)
    split = _split_dim(x, 1, (groups, x.shape[1] // groups))
    return split.permute((0, 2, 1, *range(3, len(split.shape))))


# im2col


def _windows(node: Node) -> tuple[tuple[int, int], ...]:
    """Kernel, dilation, padding and stride, and how many windows there are, as (rows, columns)."""
    names = ("kernel_size", "dilation", "padding", "stride")
    kernel, dilation, padding, stride = (pair(node.args[name], name) for name in names)
    x = node.tensor("self")
    require(x.rank in (3, 4), f"the input must be an image or a batch of them, got {list(x.shape)}")
    require(
        min(*kernel, *dilation, *stride) >= 1 and min(padding) >= 0,
        f"kernel {kernel}, dilation {dilation}, padding {padding} and stride {stride} must be "
        "positive",
    )
    counts = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, d, p, s in zip(x.shape[-2:], kernel, dilation, padding, stride, strict=True)
    ]
    require(min(counts) >= 1, f"no window fits the image {list(x.shape)}")
    return kernel, dilation, padding, stride, (counts[0], counts[1])


def _check_im2col(node: Node) -> str | None:
    kernel, *_, counts = _windows(node)
    x = node.tensor("self")
    require(x.dtype == node.output.dtype, f"the result must be {x.dtype}")
    channels = x.shape[-3] * prod(kernel)
    same_shape(node, (*x.shape[:-3], channels, prod(counts)))
    return None


def _lower_im2col(lowering: Lowering, node: Node) -> None:
    kernel, dilation, padding, stride, counts = _windows(node)
    x = lowering.read(node.tensor("self"))
    if any(padding):
        (top, left), (h, w) = padding, x.shape[-2:]
        shape = (*x.shape[:-2], h + 2 * top, w + 2 * left)
        padded = lowering.temporary(f"{node.name}.padded", shape, x.dtype)
        lowering.copy(lowering.fill(0, x.dtype), padded, node, name=f"{node.name}.fill")
        rank = len(shape)
        inner = padded.slice(rank - 2, top, h).slice(rank - 1, left, w)
        lowering.copy(x, inner, node, name=f"{node.name}.padded")
        x = padded
    (sh, sw), at = x.strides[-2:], len(x.shape) - 2
    windows = View(
        x.storage,
        (*x.shape[:at], *kernel, *counts),
        (*x.strides[:at], dilation[0] * sh, dilation[1] * sw, stride[0] * sh, stride[1] * sw),
        x.offset,
    )
    _write(lowering, node, windows)


# roll


def _rolls(node: Node, rank: int) -> list[tuple[int, int]]:
    shifts = integers(node.args["shifts"], "shifts")
    dims = [axis(d, rank) for d in integers(node.args["dims"], "dims")]
    require(
        len(shifts) == len(dims) or (not dims and len(shifts) == 1),
        f"shifts {list(shifts)} and dims {dims} do not fit",
    )
    return list(zip(dims, shifts, strict=False))


def _check_same(node: Node) -> str | None:
    x = node.tensor("self")
    require(x.dtype == node.output.dtype, f"the result must be {x.dtype}")
    same_shape(node, x.shape)
    return None


def _check_roll(node: Node) -> str | None:
    _rolls(node, node.tensor("self").rank)
    return _check_same(node)


def _lower_roll(lowering: Lowering, node: Node) -> None:
    x = lowering.read(node.tensor("self"))
    rolls = _rolls(node, len(x.shape))
    out = lowering.define(
        node.output, image=lowering.is_image(node.tensor("self")), strided=bool(rolls)
    )
    pieces = [(x, out)]
    if not rolls:
        x = lowering.contiguous(x, node).reshape((x.numel,)) or x
        flat = View(out.storage, out.shape, out.strides, out.offset).reshape((x.numel,))
        target = flat or lowering.temporary(f"{node.name}.flat", x.shape, x.dtype)
        rolls, pieces = [(0, integers(node.args["shifts"], "shifts")[0])], [(x, target)]
    else:
        target = out
    for dim, shift in rolls:
        size = x.shape[dim]
        cut = -shift % size if size else 0
        pieces = [
            (source.slice(dim, start, length), into.slice(dim, at, length))
            for source, into in pieces
            for start, length, at in ((cut, size - cut, 0), (0, cut, size - cut))
            if length
        ]
    name = "+".join(node.origins)
    for source, into in pieces:
        lowering.copy(source, into, node, name=name)
    if target.storage is not out.storage:
        lowering.copy(target.reshape(out.shape) or target, out, node, name=name)
    elif out.pad is not None and not any(into.pad is not None for _, into in pieces):
        lowering.zero_padding(out, node, f"{name}.padding")


# flip and rot90: gathered with a constant index, so that no kernel has to walk backwards.


def _lower_flips(lowering: Lowering, node: Node, dims: Sequence[int], axes: Sequence[int]) -> None:
    """The result seen through ``axes`` is the input with ``dims`` reversed."""
    x = lowering.read(node.tensor("self"))
    dims = [d for d in dims if x.shape[d] > 1]
    if not dims:
        lowering.alias(node.output, x.permute(axes))
        return
    image = lowering.is_image(node.tensor("self")) and list(axes) == list(range(len(axes)))
    out = lowering.define(node.output, image=image, strided=True)
    target = out.permute([list(axes).index(d) for d in range(len(axes))])
    for step, dim in enumerate(dims):
        index = lowering.constant(
            f"{node.name}.index", np.arange(x.shape[dim] - 1, -1, -1, dtype=np.int32)
        )
        last = step == len(dims) - 1
        into = target if last else lowering.temporary(f"{node.name}.flip", x.shape, x.dtype)
        select_along(lowering, node, x, index, dim, into, is_copy=True)
        x = into


def _flip_dims(node: Node) -> list[int]:
    dims = [axis(d, node.tensor("self").rank) for d in integers(node.args["dims"], "dims")]
    require(len(set(dims)) == len(dims), f"dims {dims} name a dimension twice")
    return dims


def _check_flip(node: Node) -> str | None:
    _flip_dims(node)
    return _check_same(node)


def _lower_flip(lowering: Lowering, node: Node) -> None:
    _lower_flips(lowering, node, _flip_dims(node), range(node.output.rank))


def _rotation(node: Node) -> tuple[list[int], list[int]]:
    """The dimensions to reverse, and the permutation behind it."""
    turns = integer(node.args["k"], "k") % 4
    dims = _flip_dims(node)
    require(len(dims) == 2, f"dims must be two, got {dims}")
    axes = list(range(node.tensor("self").rank))
    if turns % 2:
        axes[dims[0]], axes[dims[1]] = dims[1], dims[0]
    return [[], [dims[1]], dims, [dims[0]]][turns], axes


def _check_rot90(node: Node) -> str | None:
    _, axes = _rotation(node)
    x = node.tensor("self")
    require(x.dtype == node.output.dtype, f"the result must be {x.dtype}")
    same_shape(node, [x.shape[a] for a in axes])
    return None


def _lower_rot90(lowering: Lowering, node: Node) -> None:
    _lower_flips(lowering, node, *_rotation(node))


RECORDS = (
    _rearranged("aten.repeat.default", "self:T, repeats", _repeat),
    _rearranged("aten.tile.default", "self:T, dims", _tile),
    _rearranged(
        "aten.repeat_interleave.self_int",
        "self:T, repeats, dim=None, output_size=None",
        _repeat_interleave,
    ),
    _rearranged("aten.pixel_shuffle.default", "self:T, upscale_factor", _pixel_shuffle),
    _rearranged("aten.pixel_unshuffle.default", "self:T, downscale_factor", _pixel_unshuffle),
    _rearranged("aten.channel_shuffle.default", "self:T, groups", _channel_shuffle),
    _rearranged("aten.native_channel_shuffle.default", "self:T, groups", _channel_shuffle),
    OpRecord(
        "aten.im2col.default",
        "self:T, kernel_size, dilation, padding, stride",
        lower=_lower_im2col,
        check=_check_im2col,
        dtypes=COPYABLE,
    ),
    OpRecord(
        "aten.roll.default",
        "self:T; shifts; dims=[]",
        lower=_lower_roll,
        check=_check_roll,
        dtypes=COPYABLE,
    ),
    OpRecord(
        "aten.flip.default", "self:T, dims", lower=_lower_flip, check=_check_flip, dtypes=COPYABLE
    ),
    OpRecord(
        "aten.rot90.default",
        "self:T; k=1; dims=[0, 1]",
        lower=_lower_rot90,
        check=_check_rot90,
        dtypes=COPYABLE,
    ),
)
