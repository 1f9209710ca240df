"""Convolution: records and lowering to the conv2d kernel.

A transposed convolution becomes one convolution of stride 1 per phase of its stride: each computes
every stride-th result from the taps that reach it, so nothing is multiplied by inserted zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING

from npu_compiler.elementwise import Builder, to_float32
from npu_compiler.elementwise_dispatch import emit_program
from npu_compiler.errors import CompilerError
from npu_compiler.graph import BatchNorm, Node, Value
from npu_compiler.kernels.activation import ACTIVATIONS, MOVES_ZERO
from npu_compiler.ops.activation import FORMULAS
from npu_compiler.ops.conv_shape import (
    ConvShape,
    Pair,
    Phase,
    check_attrs,
    check_conv,
    conv_shape,
    phases,
)
from npu_compiler.ops.record import OpRecord
from npu_compiler.ops.weight_norm import weight_source
from npu_compiler.program.recipes import RecipeStep
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


def epilogue_fields(node: Node) -> dict[str, int | float]:
    """A kernel's activation and clamp fields for the node's epilogue."""
    low, high = node.epilogue.clamp or (-inf, inf)
    return {
        "activation": ACTIVATIONS[node.epilogue.activation or "none"],
        "clamp_lo": to_float32(low),
        "clamp_hi": to_float32(high),
    }


def fold_step(op: str, batch_norm: BatchNorm) -> RecipeStep:
    """The recipe step that folds ``batch_norm`` into a weight or bias."""
    bn = batch_norm
    keys = tuple(None if v is None else v.key for v in (bn.gamma, bn.beta, bn.mean, bn.var))
    return RecipeStep(op, sources=keys, value=bn.eps)


def bias_parameter(
    lowering: Lowering, node: Node, bias: Value | None, weight: Value, channels: int, padded: int
) -> View | None:
    """The float32 bias of a kernel with the node's BatchNorm folded in, padded with zeros; None if
    there is none.

    A convolution without bias still has one once a BatchNorm is folded in."""
    batch_norm = node.epilogue.batch_norm
    if bias is None and batch_norm is None:
        return None
    steps: list[RecipeStep] = []
    if bias is None:
        steps.append(RecipeStep("zeros", args=(channels,)))
    else:
        steps.append(RecipeStep("load", sources=(bias.key,)))
    if batch_norm is not None:
        steps.append(fold_step("fold_bn_bias", batch_norm))
    if padded != channels:
        steps.append(RecipeStep("pad", args=(padded,)))
    owner = bias if bias is not None else weight
    name = str(bias.key) if bias is not None else f"{str(weight.key).removesuffix('.weight')}.bias"
    return lowering.make_parameter(name, steps, "float32", (padded,), owner.kind, owner.dtype)


@dataclass(frozen=True, slots=True)
class _Operands:
    """A convolution's tensors as images; ``groups`` and channels may count padding as channels.

    ``out`` is the result with its padding, ``y`` what is computed of it.
    """

    x: View
    y: View
    out: View
    residual: View | None
    groups: int
    static: bool

    @property
    def channels(self) -> int:
        """Channels computed."""
        return self.y.shape[1]


def lower_conv(lowering: Lowering, node: Node) -> None:
    """One conv2d dispatch; one per phase for a transposed convolution."""
    shape = conv_shape(node)
    operands = _operands(lowering, node, shape)
    if shape.transposed:
        _lower_phases(lowering, node, shape, operands)
    else:
        w = _weight(lowering, node, shape, operands)
        b = _bias(lowering, node, shape, operands)
        steps = (shape.stride, shape.padding[:2], shape.dilation)
        _emit(lowering, node, operands, operands.x, operands.y, operands.residual, w, b, steps)
    out = operands.out
    if out.pad is not None and operands.channels == out.shape[1]:
        lowering.zero_padding(out, node, f"{'+'.join(node.origins)}.padding")


def _operands(lowering: Lowering, node: Node, shape: ConvShape) -> _Operands:
    """Reads the operands and defines the result. Channels are padded where both the memory and the
    result allow it; otherwise the logical channels are computed and the padding is filled with
    zeros.
    """
    epilogue = node.epilogue
    weight, bias = node.tensor("weight"), node.args["bias"]
    x = shape.form.view(lowering.read(node.tensor("input")))
    if x.strides[1] != 1 and x.shape[1] > lowering.target.row_major_input_channels:
        # Planes of many channels: the kernel wants a pixel's channels side by side.
        x = lowering.images(x, node)
    residual = None
    if epilogue.residual is not None:
        residual = shape.form.view(lowering.read(epilogue.residual))
    y = shape.form.define(lowering, node.output)
    out = y
    static = weight_source(weight) is not None and (bias is None or bias.is_parameter)
    low, high = epilogue.clamp or (-inf, inf)
    groups = shape.groups
    depthwise = groups > 1 and groups == y.shape[1] == x.shape[1]
    zero_stays = low <= 0 <= high and epilogue.activation not in MOVES_ZERO
    zero_stays = zero_stays and (residual is None or residual.pad == y.pad)
    pads = static and zero_stays and y.pad is not None
    dense_pad = x.pad is not None and x.pad[0] == 1 and x.strides[1] == 1
    if depthwise and pads and dense_pad and x.pad == y.pad:
        x, y, residual = x.padded(), y.padded(), residual and residual.padded()
        groups = y.shape[1]
    elif groups == 1 and pads:
        # x keeps its logical channels: an infinity in x makes NaN of y's padding (inf * 0), which
        # nothing must read.
        y, residual = y.padded(), residual and residual.padded()
    return _Operands(x, y, out, residual, groups, static)


def _emit(
    lowering: Lowering,
    node: Node,
    operands: _Operands,
    x: View,
    y: View,
    residual: View | None,
    w: View,
    bias: View | None,
    steps: tuple[Sequence[int], Sequence[int], Sequence[int]],
) -> None:
    """One dispatch; ``steps`` are strides, padding above and left, and dilation."""
    stride, pad, dilation = steps
    fields = {
        "stride_h": stride[0],
        "stride_w": stride[1],
        "pad_top": pad[0],
        "pad_left": pad[1],
        "dilation_h": dilation[0],
        "dilation_w": dilation[1],
        "groups": operands.groups,
        **epilogue_fields(node),
    }
    views = {"x": x, "w": w, "bias": bias, "residual": residual, "y": y}
    lowering.dispatch("conv2d", node, fields, views)


def _bias(lowering: Lowering, node: Node, shape: ConvShape, operands: _Operands) -> View | None:
    bias = node.args["bias"]
    source = weight_source(node.tensor("weight"))
    if operands.static and source is not None:
        oc = shape.result[1]
        return bias_parameter(lowering, node, bias, source[0], oc, operands.channels)
    if bias is None:
        return None
    return lowering.contiguous(lowering.read(bias), node, "float32")


def _weight(lowering: Lowering, node: Node, shape: ConvShape, operands: _Operands) -> View:
    weight = node.tensor("weight")
    if operands.static:
        return _static_weight(lowering, node, shape, operands, (), shape.kernel)
    w = lowering.read(weight)
    return (w if shape.form.spatial == 2 else w.insert(2)).permute((0, 2, 3, 1))


def _static_weight(
    lowering: Lowering,
    node: Node,
    shape: ConvShape,
    operands: _Operands,
    taps: Sequence[RecipeStep],
    kernel: Pair,
) -> View:
    """The weight as [oc][kh][kw][ic], BatchNorm folded, channels padded; ``taps`` pick ``kernel``
    taps of the axes 2 and 3 of [oc][ic][kh][kw].
    """
    source = weight_source(node.tensor("weight"))
    if source is None:
        raise CompilerError(f"node {node.name!r}: its weight is no parameter")
    weight, made = source
    steps: list[RecipeStep] = list(made)
    oc, per_group = shape.result[1], shape.images[1] // shape.groups
    logical = (oc, per_group, *shape.kernel)
    if shape.transposed:
        grouped = (shape.groups, per_group, oc // shape.groups, *shape.kernel)
        steps.append(RecipeStep("reshape", args=grouped))
        steps.append(RecipeStep("permute", args=(0, 2, 1, 3, 4)))
        steps.append(RecipeStep("reshape", args=logical))
    elif shape.form.spatial == 1:
        steps.append(RecipeStep("reshape", args=logical))
    if node.epilogue.batch_norm is not None:
        steps.append(fold_step("fold_bn_weight", node.epilogue.batch_norm))
    steps += taps
    dtype = operands.x.dtype
    steps.append(RecipeStep("cast", dtype=dtype))
    padded = (operands.channels, operands.x.shape[1] // operands.groups, *kernel)
    if padded != (*logical[:2], *kernel):
        steps.append(RecipeStep("pad", args=padded))
    steps.append(RecipeStep("permute", args=(0, 2, 3, 1)))
    return lowering.parameter(weight, steps, dtype, (padded[0], *kernel, padded[1]))


def _lower_phases(lowering: Lowering, node: Node, shape: ConvShape, operands: _Operands) -> None:
    bias = _bias(lowering, node, shape, operands)
    axes = [
        phases(size, k, stride, pad, dilation)
        for size, k, stride, pad, dilation in zip(
            shape.result[2:],
            shape.kernel,
            shape.stride,
            shape.padding[:2],
            shape.dilation,
            strict=True,
        )
    ]

    def part(view: View, rows: Phase, columns: Phase) -> View:
        view = view.slice(2, rows.first, rows.size, shape.stride[0])
        return view.slice(3, columns.first, columns.size, shape.stride[1])

    for rows in axes[0]:
        for columns in axes[1]:
            y = part(operands.y, rows, columns)
            residual = operands.residual and part(operands.residual, rows, columns)
            x = operands.x
            height, width = x.shape[2] - rows.start, x.shape[3] - columns.start
            if 0 in (rows.taps, columns.taps) or height <= 0 or width <= 0:
                _fill(lowering, node, y, residual, bias)
                continue
            x = x.slice(2, rows.start, height).slice(3, columns.start, width)
            w = _phase_weight(lowering, node, shape, operands, rows, columns)
            pad = (rows.pad, columns.pad)
            steps = ((1, 1), pad, (rows.dilation, columns.dilation))
            _emit(lowering, node, operands, x, y, residual, w, bias, steps)


def _fill(
    lowering: Lowering, node: Node, y: View, residual: View | None, bias: View | None
) -> None:
    """Results that no tap reaches: bias and residual alone, through the rest of the epilogue."""
    builder = Builder()
    result = builder.constant(0.0)
    if bias is not None:
        result = builder.load(bias.insert(1).insert(1))
    if residual is not None:
        result = builder("add_f", result, builder.load(replace(residual, pad=None)))
    if node.epilogue.activation is not None:
        result = FORMULAS[node.epilogue.activation](builder, result)
    if node.epilogue.clamp is not None:
        low, high = node.epilogue.clamp
        result = builder("min_f", builder("max_f", result, low), high)
    emit_program(lowering, replace(y, pad=None), builder, result, node)


def _phase_weight(
    lowering: Lowering,
    node: Node,
    shape: ConvShape,
    operands: _Operands,
    rows: Phase,
    columns: Phase,
) -> View:
    """The taps of one phase in reverse order, as [oc][taps][taps][ic]."""
    kernel = (rows.taps, columns.taps)
    if operands.static:
        taps = [
            RecipeStep("slice", args=(axis, p.first_tap, p.tap_step, p.taps))
            for axis, p in ((2, rows), (3, columns))
            if (p.first_tap, p.tap_step, p.taps) != (0, 1, shape.kernel[axis - 2])
        ]
        flipped = tuple(axis for axis, count in ((2, kernel[0]), (3, kernel[1])) if count > 1)
        if flipped:
            taps.append(RecipeStep("flip", args=flipped))
        return _static_weight(lowering, node, shape, operands, taps, kernel)
    weight = lowering.read(node.tensor("weight"))
    w = weight if shape.form.spatial == 2 else weight.insert(2)
    oc, groups = shape.result[1], shape.groups
    per_group = shape.images[1] // groups
    packed = lowering.temporary(f"{node.name}.taps", (oc, *kernel, per_group), weight.dtype)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            row = rows.first_tap + rows.tap_step * (kernel[0] - 1 - i)
            column = columns.first_tap + columns.tap_step * (kernel[1] - 1 - j)
            tap = w.drop(3, column).drop(2, row).reshape((groups, per_group, oc // groups))
            into = packed.drop(2, j).drop(1, i).reshape((groups, oc // groups, per_group))
            if tap is None or into is None:
                raise CompilerError(f"node {node.name!r}: groups of channels are no view")
            lowering.copy(tap.permute((0, 2, 1)), into, node, name=f"{node.name}.taps")
    return packed


def can_fuse(node: Node) -> bool:
    """Whether the kernel can take over a BatchNorm, an addition, an activation and a clamp that
    follow the convolution.
    """
    return node.epilogue.clamp is None


_FORWARD = "input:T, weight:T, bias:T?, stride=1, padding=0, dilation=1, groups=1"
_NAMED = _FORWARD.replace("padding=0", "padding='valid'")
_TRANSPOSED = (
    "input:T, weight:T, bias:T?, stride=1, padding=0, output_padding=0, groups=1, dilation=1"
)
_GENERAL = (
    "input:T; weight:T; bias:T?; stride; padding; dilation; transposed; output_padding; groups"
)
_FLAGS = "; benchmark; deterministic; cudnn_enabled"
RECORDS = tuple(
    OpRecord(
        op_type,
        signature,
        lower=lower_conv,
        check_attrs=check_attrs,
        check=check_conv,
        epilogue=can_fuse,
    )
    for op_type, signature in (
        ("aten.conv1d.default", _FORWARD),
        ("aten.conv1d.padding", _NAMED),
        ("aten.conv2d.default", _FORWARD),
        ("aten.conv2d.padding", _NAMED),
        ("aten.conv_transpose1d.default", _TRANSPOSED),
        ("aten.conv_transpose2d.input", _TRANSPOSED),
        ("aten.convolution.default", _GENERAL),
        ("aten._convolution.default", f"{_GENERAL}{_FLAGS}; allow_tf32"),
        ("aten._convolution.deprecated", f"{_GENERAL}{_FLAGS}"),
    )
)
