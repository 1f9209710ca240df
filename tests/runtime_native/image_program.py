"""A small program of the image kernels: convolution with residual, pooling, GEMM, reduction."""

from __future__ import annotations

from npu_compiler.program.schema import NONE, RECIPE_OPS
from tests.runtime_native.npubin_builder import Builder

CHANNELS = 8


def nhwc(n: int, c: int, h: int, w: int) -> tuple[int, ...]:
    """Strides of a channels_last image."""
    return (h * w * c, 1, w * c, c)


def image_program(dtype: str = "f32") -> Builder:
    """y = mean(pool(conv(x, w) + bias + x)), all image kernels in a chain."""
    b = Builder()
    item = 4 if dtype == "f32" else 2
    c = CHANNELS

    def image(name: str, kind: str, h: int, first: int = 0, last: int = 0) -> int:
        size = item * c * h * h
        buffer = b.buffer(name, kind, size, first_use=first, last_use=last)
        tensor = b.tensor(name, buffer, (1, c, h, h), dtype)
        b.sections["TENSORS"][tensor]["strides"] = nhwc(1, c, h, h)
        return tensor

    def weight(name: str, shape: tuple[int, ...], as_dtype: str) -> int:
        size = 4 if as_dtype == "f32" else 2
        for n in shape:
            size *= n
        tensor = b.tensor(name, b.buffer(name, "weight", size), shape, as_dtype)
        first = len(b.sections["RECIPES"])
        b.add("RECIPES", op=RECIPE_OPS["full"], sources=(NONE,) * 4, arg_count=1, args=(1,))
        b.add("WEIGHTS", tensor=tensor, recipe_first=first, recipe_count=1)
        return tensor

    x = image("x", "input", 6)
    w = weight("w", (c, 3, 3, c), dtype)
    bias = weight("bias", (c,), "f32")
    conv = image("conv", "arena", 6, 0, 1)
    maximum = image("maximum", "arena", 3, 1, 2)
    average = image("average", "arena", 3, 2, 3)
    adaptive = image("adaptive", "arena", 2, 3, 4)
    y = b.tensor("y", b.buffer("y", "output", item * c), (1, c), dtype)
    offset = 0
    for tensor in (conv, maximum, average, adaptive):
        record = b.sections["BUFFERS"][b.sections["TENSORS"][tensor]["buffer"]]
        record["offset"] = offset
        offset += record["size"]

    def view(tensor: int) -> dict[str, object]:
        t = b.sections["TENSORS"][tensor]
        return b.view(tensor, t["shape"], t["strides"])

    b.dispatch(
        "conv",
        "conv2d",
        {"x": view(x), "w": view(w), "bias": view(bias), "residual": view(x), "y": view(conv)},
        {
            "stride_h": 1, "stride_w": 1, "pad_top": 1, "pad_left": 1, "dilation_h": 1,
            "dilation_w": 1, "groups": 1, "activation": 0, "clamp_lo": 0.0,
            "clamp_hi": float("inf"),
        },
    )  # fmt: skip
    window = {"kh": 3, "kw": 3, "stride_h": 2, "stride_w": 2, "pad_h": 1, "pad_w": 1}
    b.dispatch(
        "maximum",
        "max_pool2d",
        {"x": view(conv), "y": view(maximum)},
        {**window, "dilation_h": 1, "dilation_w": 1},
    )
    b.dispatch(
        "average",
        "avg_pool2d",
        {"x": view(maximum), "y": view(average)},
        {
            **window, "stride_h": 1, "stride_w": 1, "count_include_pad": 1, "divisor_override": 0,
        },
    )  # fmt: skip
    b.dispatch("adaptive", "adaptive_avg_pool2d", {"x": view(average), "y": view(adaptive)}, {})
    # Mean over h and w: rows are channels.
    rows = b.view(adaptive, (1, 1, c, 2, 2), (1, 1, 1, 2 * c, c))
    b.dispatch("mean", "reduce", {"x": rows, "y": b.view(y, (1, 1, c))}, {"op": 1})
    b.add("IOS", name="x", tensor=x, donor=NONE)
    b.add("IOS", name="y", tensor=y, donor=NONE)
    b.add(
        "ENTRY_POINTS", name="main", dispatch_count=5, input_count=1, output_first=1,
        output_count=1, arena_size=offset,
    )  # fmt: skip
    return b
