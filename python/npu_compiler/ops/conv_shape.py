"""What a convolution node asks for, with 1-D and unbatched forms seen as batches of 2-D images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from typing import Any

from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import integer, integers, require, same_shape
from npu_compiler.ops.image_form import ImageForm

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ConvShape:
    """A convolution of images of (h, w), kernels of (kh, kw); a 1-D one has h = kh = 1.

    ``padding`` is (top, left, rows in all, columns in all); ``form`` is that of the node's tensors.
    """

    form: ImageForm
    images: tuple[int, int, int, int]
    result: tuple[int, int, int, int]
    kernel: Pair
    stride: Pair
    padding: tuple[int, int, int, int]
    dilation: Pair
    groups: int
    transposed: bool


@dataclass(frozen=True, slots=True)
class Phase:
    """Every ``stride``-th result of a transposed convolution along one axis, from ``first`` on, as
    a convolution of stride 1 with the kernel's taps first_tap, first_tap + tap_step, ... (``taps``
    of them) in reverse order; the image starts at ``start`` behind ``pad`` zeros.
    """

    first: int
    size: int
    first_tap: int
    tap_step: int
    taps: int
    dilation: int
    start: int
    pad: int


def phases(size: int, kernel: int, stride: int, pad: int, dilation: int) -> list[Phase]:
    """The phases of a transposed convolution along an axis whose result has ``size`` values.

    Result first + t * stride sums image[t + shift - j * dilation / g] times tap[first_tap + j *
    stride / g] over j, g being the greatest common divisor of stride and dilation.
    """
    common = gcd(stride, dilation)
    step = stride // common
    found = []
    for first in range(min(stride, size)):
        place = first + pad
        tap = next((k for k in range(step) if (place - k * dilation) % stride == 0), kernel)
        taps = max(0, -(-(kernel - tap) // step))
        spread = dilation // common
        start = (place - tap * dilation) // stride - spread * max(0, taps - 1)
        found.append(
            Phase(
                first=first,
                size=-(-(size - first) // stride),
                first_tap=tap,
                tap_step=step,
                taps=taps,
                dilation=spread,
                start=max(start, 0),
                pad=max(-start, 0),
            )
        )
    return found


def _steps(value: Any, name: str, spatial: int, neutral: int) -> Pair:
    """An argument with one value per spatial axis (or one for all) as (rows, columns)."""
    found = integers(value, name)
    require(
        len(found) in (1, spatial), f"{name} must have 1 or {spatial} values, got {list(found)}"
    )
    return (neutral, found[-1]) if spatial == 1 else (found[0], found[-1])


def check_attrs(args: Mapping[str, Any]) -> str | None:
    """The rules of the arguments that are no tensors."""
    for name, least in (("stride", 1), ("dilation", 1), ("padding", 0), ("output_padding", 0)):
        value = args.get(name, least)
        if name == "padding" and isinstance(value, str):
            require(value in ("same", "valid"), f"padding must be 'same' or 'valid', got {value!r}")
            stride = integers(args["stride"], "stride")
            require(
                value == "valid" or set(stride) == {1},
                f"padding='same' needs stride 1, got {list(stride)}",
            )
            continue
        found = integers(value, name)
        require(len(found) < 3, f"3-D convolution is not supported: {name} {list(found)}")
        require(len(found) > 0, f"{name} must not be empty")
        require(min(found) >= least, f"{name} must be at least {least}, got {list(found)}")
    groups = integer(args["groups"], "groups")
    require(groups >= 1, f"groups must be positive, got {groups}")
    return None


def _padding(args: Mapping[str, Any], kernel: Pair, spatial: int) -> tuple[int, int, int, int]:
    padding = args["padding"]
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        dilation = _steps(args["dilation"], "dilation", spatial, 1)
        rows, columns = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
        return rows // 2, columns // 2, rows, columns
    top, left = _steps(padding, "padding", spatial, 0)
    return top, left, 2 * top, 2 * left


def conv_shape(node: Node) -> ConvShape:
    """The node's convolution; refuses tensors that do not fit together."""
    args = node.args
    x, weight = node.tensor("input"), node.tensor("weight")
    spatial = weight.rank - 2
    require(
        spatial in (1, 2),
        f"only 1-D and 2-D convolutions are supported, the weight is {list(weight.shape)}",
    )
    form = ImageForm.of(x, spatial)
    n, c, h, w = form.images(x.shape)
    kernel = weight.shape[2:] if spatial == 2 else (1, weight.shape[2])
    kh, kw = kernel
    stride = _steps(args["stride"], "stride", spatial, 1)
    dilation = _steps(args["dilation"], "dilation", spatial, 1)
    padding = _padding(args, (kh, kw), spatial)
    groups = integer(args["groups"], "groups")
    transposed = bool(args.get("transposed", "output_padding" in args))
    inputs, outputs = (0, 1) if transposed else (1, 0)
    channels = [weight.shape[0], weight.shape[1]]
    channels[1] *= groups
    oc = channels[outputs]
    require(
        c == channels[inputs] and weight.shape[0] % groups == 0 and min(c, kh, kw, h, w) >= 1,
        f"input {list(x.shape)}, weight {list(weight.shape)} and groups={groups} do not fit",
    )
    extra = (0, 0)
    if transposed:
        extra = _steps(args.get("output_padding", 0), "output_padding", spatial, 0)
    sizes = []
    for size, k, s, total, d, more in zip(
        (h, w), (kh, kw), stride, padding[2:], dilation, extra, strict=True
    ):
        span = d * (k - 1)
        if transposed:
            sizes.append((size - 1) * s - total + span + more + 1)
        else:
            sizes.append((size + total - span - 1) // s + 1)
    require(min(sizes) >= 1, f"the kernel {kh}x{kw} does not fit the padded image {h}x{w}: {sizes}")
    result = (n, oc, sizes[0], sizes[1])
    return ConvShape(
        form=form,
        images=(n, c, h, w),
        result=result,
        kernel=(kh, kw),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        transposed=transposed,
    )


def check_conv(node: Node) -> str | None:
    """The rules of a convolution node."""
    shape = conv_shape(node)
    oc = shape.result[1]
    bias = node.args["bias"]
    require(
        bias is None or (isinstance(bias, Value) and bias.shape == (oc,)),
        f"the bias must have {oc} values, got {bias!r}",
    )
    tensors = [v for v in (node.tensor("input"), node.tensor("weight"), bias) if v is not None]
    require(
        len({v.dtype for v in (*tensors, node.output)}) == 1,
        f"input, weight, bias and result must have one dtype, got {[v.dtype for v in tensors]}",
    )
    same_shape(node, shape.form.shape(shape.result))
    return None
