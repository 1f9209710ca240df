"""Convolution: records and lowering to the conv2d kernel."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from npu_compiler.elementwise import to_float32
from npu_compiler.graph import BatchNorm, Node, Value
from npu_compiler.ops.arguments import integer, integers, pair, require, same_shape
from npu_compiler.ops.record import OpRecord
from npu_compiler.program.recipes import RecipeStep
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


def clamp_fields(node: Node) -> dict[str, float]:
    """The clamp fields of a kernel for the node's epilogue."""
    low, high = node.epilogue.clamp or (-inf, inf)
    return {"clamp_lo": to_float32(low), "clamp_hi": to_float32(high)}


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


def _padding(args: Mapping[str, Any], kernel: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, rows in all, columns in all)."""
    padding = args["padding"]
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        dilation = pair(args["dilation"], "dilation")
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return total[0] // 2, total[1] // 2, total[0], total[1]
    top, left = pair(padding, "padding")
    return top, left, 2 * top, 2 * left


def _check_attrs(args: Mapping[str, Any]) -> str | None:
    require(not args.get("transposed", False), "transposed convolution is not supported")
    stride = pair(args["stride"], "stride")
    dilation = pair(args["dilation"], "dilation")
    require(min(stride) >= 1, f"stride must be positive, got {list(stride)}")
    require(min(dilation) >= 1, f"dilation must be positive, got {list(dilation)}")
    padding = args["padding"]
    if isinstance(padding, str):
        require(padding in ("same", "valid"), f"padding must be 'same' or 'valid', got {padding!r}")
        require(
            padding == "valid" or stride == (1, 1), f"padding='same' needs stride 1, got {stride}"
        )
    else:
        require(min(pair(padding, "padding")) >= 0, f"padding must not be negative, got {padding}")
    groups = integer(args["groups"], "groups")
    require(groups >= 1, f"groups must be positive, got {groups}")
    extra = integers(args.get("output_padding") or 0, "output_padding")
    require(not any(extra), f"output_padding is for transposed convolution, got {list(extra)}")
    return None


def _check(node: Node) -> str | None:
    args = node.args
    x, weight, bias = node.tensor("input"), node.tensor("weight"), args["bias"]
    require(x.rank == 4, f"the input must be a 4-D batch of images, got {list(x.shape)}")
    require(weight.rank == 4, f"the weight must be 4-D, got {list(weight.shape)}")
    n, c, h, w = x.shape
    oc, icg, kh, kw = weight.shape
    groups = args["groups"]
    require(
        c == icg * groups and oc % groups == 0 and min(kh, kw) >= 1 and min(h, w) >= 1,
        f"input {list(x.shape)}, weight {list(weight.shape)} and groups={groups} do not fit",
    )
    require(
        bias is None or (isinstance(bias, Value) and bias.shape == (oc,)),
        f"the bias must have {oc} values, got {bias!r}",
    )
    tensors = [x, weight, *([] if bias is None else [bias])]
    require(
        len({v.dtype for v in (*tensors, node.output)}) == 1,
        f"input, weight, bias and result must have one dtype, got {[v.dtype for v in tensors]}",
    )
    stride, dilation = pair(args["stride"], "stride"), pair(args["dilation"], "dilation")
    _, _, rows, columns = _padding(args, (kh, kw))
    oh = (h + rows - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (w + columns - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    require(oh >= 1 and ow >= 1, f"the kernel {kh}x{kw} is larger than the padded image {h}x{w}")
    same_shape(node, (n, oc, oh, ow))
    return None


def lower_conv(lowering: Lowering, node: Node) -> None:
    """One conv2d dispatch. Channels are padded where both the memory and the result allow it;
    otherwise the logical channels are computed and the padding is filled with zeros.
    """
    args, epilogue = node.args, node.epilogue
    weight, bias = node.tensor("weight"), args["bias"]
    groups = int(args["groups"])
    x = lowering.read(node.tensor("input"))
    few = lowering.target.row_major_input_channels
    if x.strides[1] != 1 and x.shape[1] > few:
        # Planes of many channels: the kernel wants a pixel's channels side by side.
        x = lowering.images(x, node)
    residual = None if epilogue.residual is None else lowering.read(epilogue.residual)
    y = lowering.define(node.output, image=True)
    out = y
    oc, ic, kh, kw = weight.shape
    static = weight.is_parameter and (bias is None or bias.is_parameter)
    low, high = epilogue.clamp or (-inf, inf)
    depthwise = groups > 1 and groups == oc and ic == 1
    zero_stays = low <= 0 <= high and (residual is None or residual.pad == y.pad)
    pads = static and zero_stays and y.pad is not None
    dense_pad = x.pad is not None and x.pad[0] == 1 and x.strides[1] == 1
    if depthwise and pads and dense_pad and x.pad == y.pad:
        x, y, residual = x.padded(), y.padded(), residual and residual.padded()
        groups = y.shape[1]
    elif groups == 1 and pads:
        # x keeps its logical channels: an infinity in x makes NaN of y's padding (inf * 0), which
        # nothing must read.
        y, residual = y.padded(), residual and residual.padded()
    channels = y.shape[1]
    if static:
        w = _weight(lowering, node, weight, (channels, x.shape[1] // groups, kh, kw), x.dtype)
        b = bias_parameter(lowering, node, bias, weight, oc, channels)
    else:
        w = lowering.read(weight).permute((0, 2, 3, 1))
        b = None if bias is None else lowering.contiguous(lowering.read(bias), node, "float32")
    stride, dilation = pair(args["stride"], "stride"), pair(args["dilation"], "dilation")
    top, left, _, _ = _padding(args, (kh, kw))
    fields = {
        "stride_h": stride[0],
        "stride_w": stride[1],
        "pad_top": top,
        "pad_left": left,
        "dilation_h": dilation[0],
        "dilation_w": dilation[1],
        "groups": groups,
        **clamp_fields(node),
    }
    operands = {"x": x, "w": w, "bias": b, "residual": residual, "y": y}
    lowering.dispatch("conv2d", node, fields, operands)
    if out.pad is not None and channels == out.shape[1]:
        lowering.zero_padding(out, node, f"{'+'.join(node.origins)}.padding")


def _weight(
    lowering: Lowering, node: Node, weight: Value, padded: tuple[int, ...], dtype: str
) -> View:
    steps: list[RecipeStep] = []
    if node.epilogue.batch_norm is not None:
        steps.append(fold_step("fold_bn_weight", node.epilogue.batch_norm))
    steps.append(RecipeStep("cast", dtype=dtype))
    if padded != weight.shape:
        steps.append(RecipeStep("pad", args=padded))
    steps.append(RecipeStep("permute", args=(0, 2, 3, 1)))
    oc, ic, kh, kw = padded
    return lowering.parameter(weight, steps, dtype, (oc, kh, kw, ic))


def can_fuse(node: Node) -> bool:
    """Whether the kernel can take over a BatchNorm, an addition and a clamp that follow the
    convolution.
    """
    return node.epilogue.clamp is None


_SIGNATURE = "input:T, weight:T, bias:T?, stride=1, padding=0, dilation=1, groups=1"
_GENERAL = (
    "input:T; weight:T; bias:T?; stride; padding; dilation; transposed; output_padding; groups"
)
RECORDS = tuple(
    OpRecord(
        op_type,
        signature,
        lower=lower_conv,
        check_attrs=_check_attrs,
        check=_check,
        epilogue=can_fuse,
    )
    for op_type, signature in (
        ("aten.conv2d.default", _SIGNATURE),
        ("aten.conv2d.padding", _SIGNATURE.replace("padding=0", "padding='valid'")),
        ("aten.convolution.default", _GENERAL),
    )
)
