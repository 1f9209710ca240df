"""Pooling kernels over 4-D images; one thread per output value."""

from dataclasses import replace

from npu_compiler.kernels.conv import FLOAT_TYPES, MAX_SIDE, MAX_STEP
from npu_compiler.kernels.record import Field, Kernel, Launch, Operand

_IMAGES = (
    Operand("x", ("n", "c", "h", "w")),
    Operand("y", ("n", "c", "h", "w"), access="write"),
)
_LAUNCH = Launch(("y.c", "y.w", "y.h * y.n"), (64, 1, 1))
_WINDOW = (
    Field("kh", "u32", "window rows"),
    Field("kw", "u32", "window columns"),
    Field("stride_h", "u32", "rows between windows"),
    Field("stride_w", "u32", "columns between windows"),
    Field("pad_h", "u32", "padding rows above (and below)"),
    Field("pad_w", "u32", "padding columns left (and right)"),
)
_RULES = (
    "x.n == y.n",
    "x.c == y.c",
    "x.h >= 1",
    "x.w >= 1",
    *(f"{image}.{axis} <= {MAX_SIDE}" for image in "xy" for axis in "hw"),
)
_WINDOW_RULES = (
    "kh >= 1",
    "kw >= 1",
    "stride_h >= 1",
    "stride_w >= 1",
    *(f"{step} <= {MAX_STEP}" for step in ("kh", "kw", "stride_h", "stride_w")),
    # PyTorch's rules: no window may lie wholly in the padding.
    "2 * pad_h <= kh",
    "2 * pad_w <= kw",
    "(y.h - 1) * stride_h < x.h + pad_h",
    "(y.w - 1) * stride_w < x.w + pad_w",
)

MAX_POOL2D = Kernel(
    id=3,
    name="max_pool2d",
    shader="pool.metal",
    doc="Maximum over dilated windows; padding never wins, NaN does (as in PyTorch).",
    operands=_IMAGES,
    fields=(
        *_WINDOW,
        Field("dilation_h", "u32", "rows between taps"),
        Field("dilation_w", "u32", "columns between taps"),
    ),
    launch=_LAUNCH,
    types={"T": FLOAT_TYPES},
    requires=(
        *_RULES,
        *_WINDOW_RULES,
        "dilation_h >= 1",
        "dilation_w >= 1",
        f"dilation_h <= {MAX_STEP}",
        f"dilation_w <= {MAX_STEP}",
        # A window may hang over the padding by less than a stride (ceil_mode).
        "(kh - 1) * dilation_h < x.h + 2 * pad_h + stride_h",
        "(kw - 1) * dilation_w < x.w + 2 * pad_w + stride_w",
    ),
    flops="y.n * y.c * y.h * y.w * kh * kw",
)

AVG_POOL2D = Kernel(
    id=4,
    name="avg_pool2d",
    shader="pool.metal",
    doc="""Mean over windows, in float32. The divisor is ``divisor_override`` if not 0, else the
    window's size: clipped to the image plus its padding (``count_include_pad``) or to the
    image.""",
    operands=_IMAGES,
    fields=(
        *_WINDOW,
        Field("count_include_pad", "u32", "1: padding counts in the divisor"),
        Field("divisor_override", "i32", "divisor to use instead; 0 for none"),
    ),
    launch=_LAUNCH,
    types={"T": FLOAT_TYPES},
    requires=(*_RULES, *_WINDOW_RULES),
    flops="y.n * y.c * y.h * y.w * kh * kw",
)

ADAPTIVE_AVG_POOL2D = Kernel(
    id=5,
    name="adaptive_avg_pool2d",
    shader="pool.metal",
    doc="Mean over the window [floor(i*h/oh), ceil((i+1)*h/oh)) of each output, in float32.",
    operands=_IMAGES,
    fields=(),
    launch=_LAUNCH,
    types={"T": FLOAT_TYPES},
    # The window's bounds are computed in int32.
    requires=(*_RULES, "(y.h + 1) * x.h <= 2147483647", "(y.w + 1) * x.w <= 2147483647"),
    flops="y.n * y.c * x.h * x.w",
)

_INDEX = Operand("index", ("n", "c", "h", "w"), dtype="i64", access="write")
_INDEX_RULES = (
    "index.n == y.n",
    "index.c == y.c",
    "index.h == y.h",
    "index.w == y.w",
    # Places in a plane are computed in int32.
    "x.h * x.w <= 2147483647",
)
MAX_POOL2D_WITH_INDICES = Kernel(
    id=19,
    name="max_pool2d_with_indices",
    shader="pool.metal",
    doc="""max_pool2d, and the place h * x.w + w of each maximum in its plane of x: of the first one
    where several are equal, of the last NaN where there is one.""",
    operands=(*_IMAGES, _INDEX),
    fields=MAX_POOL2D.fields,
    launch=_LAUNCH,
    types={"T": FLOAT_TYPES},
    requires=(*MAX_POOL2D.requires, *_INDEX_RULES),
    flops=MAX_POOL2D.flops,
)

ADAPTIVE_MAX_POOL2D = Kernel(
    id=17,
    name="adaptive_max_pool2d",
    shader="pool.metal",
    doc="""Maximum over the windows of adaptive_avg_pool2d, and where asked for its place as of
    max_pool2d_with_indices.""",
    operands=(*_IMAGES, replace(_INDEX, optional=True)),
    fields=(),
    launch=_LAUNCH,
    types={"T": FLOAT_TYPES},
    requires=(*ADAPTIVE_AVG_POOL2D.requires, *_INDEX_RULES),
    flops=ADAPTIVE_AVG_POOL2D.flops,
)
