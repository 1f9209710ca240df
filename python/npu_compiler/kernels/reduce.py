"""Reduction kernels: one threadgroup of 256 threads per row."""

from npu_compiler.dtypes import BY_SHORT
from npu_compiler.kernels.conv import FLOAT_TYPES
from npu_compiler.kernels.record import Field, Kernel, Launch, Operand
from npu_compiler.kernels.schedule import Schedule, Scratch, Stage

# Values of the field ``op`` of the reduce kernel; part of the .npubin format.
REDUCE_OPS = {
    "sum": 0,
    "mean": 1,
    "max": 2,
    "min": 3,
    "prod": 4,
    "any": 5,
    "all": 6,
    "count_nonzero": 7,
    "norm_0": 8,
    "norm_1": 9,
    "norm_2": 10,
    "norm_inf": 11,
    "norm_neg_inf": 12,
    "logsumexp": 13,
}
ARG_OPS = {"max": 0, "min": 1}
# Threads of a row's threadgroup.
ROW_THREADS = 256
ROW_LAUNCH = Launch(("x.c", "x.b", "x.a"), (ROW_THREADS, 1, 1), unit="threadgroups")
SAME_ROWS = ("x.a == y.a", "x.b == y.b", "x.c == y.c")
SAME_ELEMENTS = (*SAME_ROWS, "x.k == y.k")

SOFTMAX = Kernel(
    id=6,
    name="softmax",
    shader="softmax.metal",
    doc="""Softmax over k, in float32, max-shifted: exp(x - max) / sum; with ``log`` x - max -
    log(sum). A row of only -inf gives NaN, as in PyTorch.""",
    operands=(
        Operand("x", ("a", "b", "c", "k")),
        Operand("y", ("a", "b", "c", "k"), access="write"),
    ),
    fields=(Field("log", "u32", "1: log-softmax"),),
    launch=ROW_LAUNCH,
    types={"T": FLOAT_TYPES},
    requires=(*SAME_ELEMENTS, "log <= 1"),
    inplace=(("x", "y"),),
    shared=(("partial", "f32", 8),),
    flops="5 * x.a * x.b * x.c * x.k",
)

MASKED_SOFTMAX = Kernel(
    id=16,
    name="masked_softmax",
    shader="softmax.metal",
    doc="""Softmax over k of x * scale + mask, in float32. A bool mask keeps where it is true and
    stands for 0 and -inf. A row of only -inf gives NaN, or with ``safe`` 0.""",
    operands=(
        Operand("x", ("a", "b", "c", "k")),
        Operand("mask", ("a", "b", "c", "k"), dtype="any", optional=True),
        Operand("y", ("a", "b", "c", "k"), access="write"),
    ),
    fields=(
        Field("scale", "f32", "factor of x"),
        Field("safe", "u32", "1: rows of only -inf give 0"),
    ),
    launch=ROW_LAUNCH,
    types={"T": FLOAT_TYPES},
    requires=(*SAME_ELEMENTS, *(f"mask.{d} == x.{d}" for d in "abck"), "safe <= 1"),
    inplace=(("x", "y"),),
    shared=(("partial", "f32", 8),),
    flops="7 * x.a * x.b * x.c * x.k",
)

REDUCE = Kernel(
    id=7,
    name="reduce",
    shader="reduce.metal",
    doc="""y[a, b, c] = op over (k, l) of x[a, b, c, k, l]: in float32 where x is floating, else
    exact in int64 (mean, norms and logsumexp always in float32; any, all and count_nonzero count
    what is not 0). max and min propagate NaN; the mean of nothing is NaN, the sum 0, the product
    1.""",
    operands=(
        Operand("x", ("a", "b", "c", "k", "l"), dtype="any"),
        Operand("y", ("a", "b", "c"), dtype="any", access="write"),
    ),
    fields=(Field("op", "u32", "which reduction, see REDUCE_OPS"),),
    launch=Launch(("y.c", "y.b", "y.a"), (ROW_THREADS, 1, 1), unit="threadgroups"),
    types={},
    requires=(*SAME_ROWS, f"op <= {max(REDUCE_OPS.values())}"),
    shared=(("partial", "f32", 8), ("exact", "i64", ROW_THREADS)),
    flops="x.a * x.b * x.c * x.k * x.l",
    constants={f"REDUCE_{name.upper()}": value for name, value in REDUCE_OPS.items()},
)

VARIANCE = Kernel(
    id=26,
    name="variance",
    shader="reduce.metal",
    doc="""Over (k, l) of x[a, b, c, k, l], in float32 and around the mean: sum((x - mean)^2) /
    max(0, count - correction), with ``root`` its square root, and the mean.""",
    operands=(
        Operand("x", ("a", "b", "c", "k", "l"), dtype="any"),
        Operand("y", ("a", "b", "c"), dtype="any", access="write"),
        Operand("mean", ("a", "b", "c"), dtype="any", access="write", optional=True),
    ),
    fields=(
        Field("correction", "f32", "subtracted from the number of values"),
        Field("root", "u32", "1: standard deviation"),
    ),
    launch=ROW_LAUNCH,
    types={},
    requires=(*SAME_ROWS, *(f"mean.{d} == x.{d}" for d in "abc"), "root <= 1"),
    shared=(("partial", "f32", 8),),
    flops="4 * x.a * x.b * x.c * x.k * x.l",
)

# Rows from this length on are long: the logits of a language model.
ARG_LONG_ROW = 4096
# One threadgroup a row, up to so many elements: about as long as a second launch takes.
ARG_WIDE_MOST = 1 << 18
ARG_WIDE = Schedule(
    "wide",
    "arg_reduce_long.metal",
    (
        "x.sk == 1 and x.offset % 16 == 0",
        " and ".join(f"x.s{axis} * x.item % 16 == 0" for axis in "abc"),
        " or ".join(f"x.dtype == {BY_SHORT[t].id}" for t in FLOAT_TYPES),
        f"x.k <= {ARG_WIDE_MOST}",
    ),
    (f"x.k >= {ARG_LONG_ROW}",),
    (
        Stage(
            Launch(("x.c", "x.b", "x.a"), (1024, 1, 1), unit="threadgroups"),
            (("keys", "i32", 32), ("places", "i32", 32)),
        ),
    ),
)
# Elements of a row that a threadgroup of schedule long looks through.
ARG_PART = 2048
_ARG_SHARED = (("keys", "i64", ROW_THREADS), ("places", "i64", ROW_THREADS))
_ARG_FOUND = f"x.a * x.b * x.c * ceil_div(x.k, {ARG_PART})"
# Few rows do not fill a GPU with a threadgroup each.
ARG_LONG = Schedule(
    "long",
    "arg_reduce_long.metal",
    (),
    (f"x.k >= {ARG_LONG_ROW}", "x.a * x.b * x.c <= 64"),
    tuple(
        Stage(
            Launch((parts, "x.b * x.c", "x.a"), (ROW_THREADS, 1, 1), unit="threadgroups"),
            _ARG_SHARED,
            name,
        )
        for name, parts in (("part", f"ceil_div(x.k, {ARG_PART})"), ("join", "1"))
    ),
    (Scratch("found_keys", "i64", _ARG_FOUND), Scratch("found_places", "i64", _ARG_FOUND)),
)

ARG_REDUCE = Kernel(
    id=10,
    name="arg_reduce",
    shader="reduce.metal",
    doc="""The largest (smallest) of x[a, b, c, k] over k and its index: the first of equal ones;
    the first NaN wins over all others.""",
    operands=(
        Operand("x", ("a", "b", "c", "k"), dtype="any"),
        Operand("y", ("a", "b", "c"), dtype="any", access="write", optional=True),
        Operand("index", ("a", "b", "c"), dtype="i64", access="write", optional=True),
    ),
    fields=(Field("op", "u32", "which extreme, see ARG_OPS"),),
    launch=ROW_LAUNCH,
    types={},
    requires=(
        *SAME_ROWS,
        *(f"index.{d} == x.{d}" for d in "abc"),
        "x.k >= 1",
        f"op <= {max(ARG_OPS.values())}",
    ),
    shared=_ARG_SHARED,
    flops="x.a * x.b * x.c * x.k",
    schedules=(ARG_WIDE, ARG_LONG),
    constants={
        **{f"ARG_{name.upper()}": value for name, value in ARG_OPS.items()},
        "ARG_PART": ARG_PART,
    },
)
