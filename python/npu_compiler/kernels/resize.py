"""The resize kernel: interpolation between the pixels of an image."""

from npu_compiler.kernels.conv import FLOAT_TYPES, MAX_SIDE
from npu_compiler.kernels.record import Field, Kernel, Launch, Operand

# Values of the field ``mode``; part of the .npubin format.
RESIZE_MODES = {"nearest": 0, "nearest_exact": 1, "bilinear": 2, "bicubic": 3}

RESIZE = Kernel(
    id=18,
    name="resize",
    shader="resize.metal",
    doc="""y[n, c, i, j] = x interpolated at row i and column j of y, in float32. Row i lies at
    i * scale_h of x (nearest, align_corners) or at (i + 0.5) * scale_h - 0.5 (else); nearest takes
    the pixel that holds it (nearest_exact: its centre). Pixels outside are those at the edge.""",
    operands=(
        Operand("x", ("n", "c", "h", "w")),
        Operand("y", ("n", "c", "h", "w"), access="write"),
    ),
    fields=(
        Field("mode", "u32", "how to interpolate, see RESIZE_MODES"),
        Field("align_corners", "u32", "1: the centres of the corner pixels coincide"),
        Field("scale_h", "f32", "rows of x per row of y"),
        Field("scale_w", "f32", "columns of x per column of y"),
    ),
    launch=Launch(("y.c", "y.w", "y.h * y.n"), (64, 1, 1)),
    types={"T": FLOAT_TYPES},
    requires=(
        "x.n == y.n",
        "x.c == y.c",
        "x.h >= 1",
        "x.w >= 1",
        f"mode <= {max(RESIZE_MODES.values())}",
        "align_corners <= 1",
        *(f"{image}.{axis} <= {MAX_SIDE}" for image in "xy" for axis in "hw"),
    ),
    flops="y.n * y.c * y.h * y.w * 16",
    constants={f"RESIZE_{name.upper()}": value for name, value in RESIZE_MODES.items()},
)
