"""3-D convolution: the taps along the depth become channels of a 2-D convolution, whose images are
the slices of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from npu_compiler.graph import Node
from npu_compiler.ops.arguments import integer, integers, require, same_shape
from npu_compiler.ops.conv import bias_parameter, epilogue_fields
from npu_compiler.ops.record import OpRecord
from npu_compiler.program.recipes import RecipeStep
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

Triple = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Shape:
    """Sizes of a batch of volumes [n][c][d][h][w]; ``before`` is the padding in front of each axis.

    An unbatched volume is a batch of one.
    """

    volumes: tuple[int, ...]
    result: tuple[int, ...]
    kernel: Triple
    stride: Triple
    before: Triple
    dilation: Triple
    groups: int


def _triple(value: object, name: str) -> Triple:
    found = integers(value, name)
    require(len(found) in (1, 3), f"{name} must have one or three values, got {list(found)}")
    return found if len(found) == 3 else found * 3


def _shape(node: Node) -> _Shape:
    x, weight, args = node.tensor("input"), node.tensor("weight"), node.args
    require(x.rank in (4, 5) and weight.rank == 5, f"{x!r} and {weight!r} do not fit together")
    volumes = x.shape if x.rank == 5 else (1, *x.shape)
    kernel = weight.shape[2:]
    stride, dilation = _triple(args["stride"], "stride"), _triple(args["dilation"], "dilation")
    require(
        min(stride + dilation) >= 1, f"stride {stride} and dilation {dilation} must be positive"
    )
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if isinstance(args["padding"], str):
        require(args["padding"] in ("same", "valid"), f"unknown padding {args['padding']!r}")
        same = args["padding"] == "same"
        require(not same or max(stride) == 1, "padding 'same' needs stride 1")
        total = [r - 1 if same else 0 for r in reach]
        before = tuple(t // 2 for t in total)
    else:
        before = _triple(args["padding"], "padding")
        require(min(before) >= 0, f"padding must not be negative, got {list(before)}")
        total = [2 * p for p in before]
    groups = integer(args["groups"], "groups")
    channels = weight.shape[0]
    require(
        groups >= 1 and volumes[1] == weight.shape[1] * groups and channels % groups == 0,
        f"input {list(x.shape)}, weight {list(weight.shape)} and groups {groups} do not fit",
    )
    spaces = [n + t - r for n, t, r in zip(volumes[2:], total, reach, strict=True)]
    require(
        min(spaces) >= 0, f"the kernel's reach {reach} exceeds the padded input {list(x.shape)}"
    )
    result = (volumes[0], channels, *(n // s + 1 for n, s in zip(spaces, stride, strict=True)))
    return _Shape(volumes, result, kernel, stride, before, dilation, groups)


def _check(node: Node) -> str | None:
    shape = _shape(node)
    x, bias = node.tensor("input"), node.args["bias"]
    dtypes = {v.dtype for v in (*node.inputs(), *node.outputs)}
    require(len(dtypes) == 1, f"operands and result must have one dtype, got {sorted(dtypes)}")
    require(
        bias is None or bias.shape == (shape.result[1],),
        f"the bias must have {shape.result[1]} values, got {bias!r}",
    )
    same_shape(node, shape.result[5 - x.rank :])
    return None


def _lower(lowering: Lowering, node: Node) -> None:
    shape = _shape(node)
    x = lowering.read(node.tensor("input"))
    x = x if len(x.shape) == 5 else x.insert(0)
    n, oc, depth, height, width = shape.result
    images = _slices(lowering, node, shape, x)
    y = lowering.temporary(f"{node.name}.slices", (n, depth, height, width, oc), x.dtype)
    fields = {
        "stride_h": shape.stride[1],
        "stride_w": shape.stride[2],
        "pad_top": shape.before[1],
        "pad_left": shape.before[2],
        "dilation_h": shape.dilation[1],
        "dilation_w": shape.dilation[2],
        "groups": shape.groups,
        **epilogue_fields(node),
    }
    operands: dict[str, View | None] = {
        "x": images,
        "w": _weight(lowering, node, shape, x.dtype),
        "bias": _bias(lowering, node, oc),
        "residual": None,
        "y": _merge(y, (n * depth, height, width, oc)).permute((0, 3, 1, 2)),
    }
    lowering.dispatch("conv2d", node, fields, operands)
    volumes = y.permute((0, 4, 1, 2, 3))
    out = lowering.define(node.output, image=False, strided=True)
    name = f"{node.name}.volumes"
    lowering.copy(volumes if len(out.shape) == 5 else volumes.drop(0, 0), out, node, name=name)


def _slices(lowering: Lowering, node: Node, shape: _Shape, x: View) -> View:
    """The input as one image per slice of the result: [n * depth][groups * taps * c][h][w], each
    tap's channels copied from the slice that it meets, zeros beyond the first and the last.
    """
    n, c, size, height, width = shape.volumes
    depth, taps, groups = shape.result[2], shape.kernel[0], shape.groups
    per_group = c // groups
    memory = lowering.temporary(
        f"{node.name}.taps", (n, depth, height, width, groups, taps, per_group), x.dtype
    )
    by_group = View(
        x.storage,
        (n, groups, per_group, size, height, width),
        (x.strides[0], per_group * x.strides[1], *x.strides[1:]),
        x.offset,
    ).permute((0, 3, 4, 5, 1, 2))
    ranges = [_met(shape, tap) for tap in range(taps)]
    if any((first, end) != (0, depth) for first, end, _ in ranges):
        lowering.copy(lowering.fill(0, x.dtype), memory, node, name=f"{node.name}.fill")
    for tap, (first, end, start) in enumerate(ranges):
        if first < end:
            source = by_group.slice(1, start, end - first, shape.stride[0])
            into = memory.drop(5, tap).slice(1, first, end - first)
            lowering.copy(source, into, node, name=f"{node.name}.tap{tap}")
    merged = _merge(memory, (n * depth, height, width, groups * taps * per_group))
    return merged.permute((0, 3, 1, 2))


def _met(shape: _Shape, tap: int) -> tuple[int, int, int]:
    """The slices of the result, from the first to before the last, for which a tap lies within the
    input, and the slice of the input that it meets first.
    """
    size, depth = shape.volumes[2], shape.result[2]
    stride, at = shape.stride[0], tap * shape.dilation[0] - shape.before[0]
    first = min(depth, -(min(at, 0) // stride))
    end = min(depth, (size - 1 - at) // stride + 1) if at < size else 0
    return first, max(first, end), first * stride + at


def _weight(lowering: Lowering, node: Node, shape: _Shape, dtype: str) -> View:
    """The weight as [oc][h][w][taps * c]."""
    weight = node.tensor("weight")
    oc, per_group = weight.shape[:2]
    taps, height, width = shape.kernel
    packed = (oc, height, width, taps * per_group)
    order = (0, 3, 4, 2, 1)
    if weight.is_parameter:
        steps = (
            RecipeStep("cast", dtype=dtype),
            RecipeStep("permute", args=order),
            RecipeStep("reshape", args=packed),
        )
        return lowering.parameter(weight, steps, dtype, packed)
    return _merge(lowering.contiguous(lowering.read(weight).permute(order), node), packed)


def _bias(lowering: Lowering, node: Node, channels: int) -> View | None:
    bias, weight = node.args["bias"], node.tensor("weight")
    if bias is None or bias.is_parameter:
        return bias_parameter(lowering, node, bias, weight, channels, channels)
    return lowering.contiguous(lowering.read(bias), node, "float32")


def _merge(view: View, shape: Sequence[int]) -> View:
    merged = view.reshape(shape)
    require(merged is not None, f"memory of {list(view.shape)} is no {list(shape)}")
    return merged or view


_SIGNATURE = "input:T, weight:T, bias:T?, stride=1, padding=0, dilation=1, groups=1"
RECORDS = (
    OpRecord("aten.conv3d.default", _SIGNATURE, lower=_lower, check=_check),
    OpRecord(
        "aten.conv3d.padding",
        _SIGNATURE.replace("padding=0", "padding='valid'"),
        lower=_lower,
        check=_check,
    ),
)
