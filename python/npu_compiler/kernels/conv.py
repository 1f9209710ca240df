"""Convolution kernels."""

from npu_compiler.kernels import panels
from npu_compiler.kernels.activation import EPILOGUE_CONSTANTS, EPILOGUE_FIELDS, EPILOGUE_RULES
from npu_compiler.kernels.record import Field, Kernel, Launch, Operand

FLOAT_TYPES = ("f32", "f16", "bf16")
# Instruction fields that count rows, columns or taps are 16 bits wide and images at most 2^24
# positions a side, so that kernels may do all position arithmetic in int32.
MAX_STEP = 65535
MAX_SIDE = 1 << 24

_TILES = "conv2d_tiles.metal"
_COMMON = "w.kh * w.kw * w.ic"
# 16 bytes of channels can be loaded at once, and the weights of a channel lie side by side.
_WIDE = (
    "x.sc == 1",
    "x.offset % 16 == 0",
    *(f"x.s{axis} * x.item % 16 == 0" for axis in "nhw"),
    "w.ic * w.item % 16 == 0",
    "w.offset % 16 == 0",
    "w.sic == 1",
    "w.skw == w.ic",
    "w.skh == w.kw * w.ic",
    "w.soc * w.item % 16 == 0",
    # Depthwise and other narrow groups leave a tile empty.
    "w.oc // groups >= 16",
)


def _grid(size: int) -> tuple[str, str, str]:
    return f"ceil_div(w.oc // groups, {size})", f"ceil_div(y.h * y.w, {size})", "y.n * groups"


CONV2D = Kernel(
    id=1,
    name="conv2d",
    shader="conv2d.metal",
    doc="""2-D convolution: y = clamp(activation(conv(x, w) + bias + residual)), accumulated in
    float32 and rounded once.

    Rows above ``pad_top`` and columns left of ``pad_left`` read as zero; the padding below and to
    the right follows from y's size. Channels of group g are x[:, g*ic:(g+1)*ic] and y[:,
    g*oc/groups:...].""",
    operands=(
        Operand("x", ("n", "c", "h", "w")),
        Operand("w", ("oc", "kh", "kw", "ic")),
        Operand("bias", ("c",), dtype="f32", optional=True),
        Operand("residual", ("n", "c", "h", "w"), optional=True),
        Operand("y", ("n", "c", "h", "w"), access="write"),
    ),
    fields=(
        Field("stride_h", "u32", "rows between windows"),
        Field("stride_w", "u32", "columns between windows"),
        Field("pad_top", "u32", "zero rows above the image"),
        Field("pad_left", "u32", "zero columns left of the image"),
        Field("dilation_h", "u32", "rows between taps"),
        Field("dilation_w", "u32", "columns between taps"),
        Field("groups", "u32", "channel groups"),
        *EPILOGUE_FIELDS,
    ),
    # One threadgroup computes a tile of 32 output pixels x 32 output channels of one group.
    launch=Launch(
        ("ceil_div(w.oc // groups, 32)", "ceil_div(y.h * y.w, 32)", "y.n * groups"),
        (64, 1, 1),
        unit="threadgroups",
    ),
    types={"T": FLOAT_TYPES},
    requires=(
        "groups >= 1",
        "w.kh >= 1",
        "w.kw >= 1",
        "w.ic >= 1",
        "stride_h >= 1",
        "stride_w >= 1",
        "dilation_h >= 1",
        "dilation_w >= 1",
        *(
            f"{step}_{axis} <= {MAX_STEP}"
            for step, axes in (("stride", "hw"), ("dilation", "hw"), ("pad", ("top", "left")))
            for axis in axes
        ),
        *(f"{image}.{axis} <= {MAX_SIDE}" for image in "xy" for axis in "hw"),
        # The padding below and to the right is at most MAX_STEP, too.
        f"(y.h - 1) * stride_h + (w.kh - 1) * dilation_h < x.h + pad_top + {MAX_STEP + 1}",
        f"(y.w - 1) * stride_w + (w.kw - 1) * dilation_w < x.w + pad_left + {MAX_STEP + 1}",
        "x.n == y.n",
        "w.oc == y.c",
        "w.oc % groups == 0",
        "x.c == w.ic * groups",
        "bias.c == y.c",
        "residual.n == y.n",
        "residual.c == y.c",
        "residual.h == y.h",
        "residual.w == y.w",
        *EPILOGUE_RULES,
    ),
    inplace=(("residual", "y"),),
    shared=(("x_tile", "f32", 32 * 17), ("w_tile", "f32", 32 * 17)),
    flops="2 * y.n * y.h * y.w * w.oc * w.kh * w.kw * w.ic",
    schedules=(
        panels.large(_TILES, _WIDE, _grid(128)),
        panels.split(
            _TILES,
            _WIDE,
            ("w.oc // groups", "y.h * y.w"),
            "y.n * groups",
            _COMMON,
            ("w.oc", "y.h * y.w", "y.n"),
        ),
        panels.whole("tiles", _TILES, _WIDE, _grid(64), (64, 64, 32)),
    ),
    # gemm's, too.
    constants=EPILOGUE_CONSTANTS,
)
