"""Reduction kernels: one threadgroup of 256 threads per row."""

from npu_compiler.kernels.conv import FLOAT_TYPES
from npu_compiler.kernels.record import Field, Kernel, Launch, Operand

# Values of the field ``op`` of the reduce kernel; part of the .npubin format.
REDUCE_OPS = {"sum": 0, "mean": 1, "max": 2, "min": 3, "prod": 4}

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
    launch=Launch(("x.c", "x.b", "x.a"), (256, 1, 1), unit="threadgroups"),
    types={"T": FLOAT_TYPES},
    requires=("x.a == y.a", "x.b == y.b", "x.c == y.c", "x.k == y.k", "log <= 1"),
    inplace=(("x", "y"),),
    shared=(("partial", "f32", 8),),
    flops="5 * x.a * x.b * x.c * x.k",
)

REDUCE = Kernel(
    id=7,
    name="reduce",
    shader="reduce.metal",
    doc="""y[a, b, c] = op over (k, l) of x[a, b, c, k, l], in float32. max and min propagate NaN;
    the mean of nothing is NaN, the sum 0, the product 1.""",
    operands=(
        Operand("x", ("a", "b", "c", "k", "l")),
        Operand("y", ("a", "b", "c"), access="write"),
    ),
    fields=(Field("op", "u32", "which reduction, see REDUCE_OPS"),),
    launch=Launch(("y.c", "y.b", "y.a"), (256, 1, 1), unit="threadgroups"),
    types={"T": FLOAT_TYPES},
    requires=("x.a == y.a", "x.b == y.b", "x.c == y.c", f"op <= {max(REDUCE_OPS.values())}"),
    shared=(("partial", "f32", 8),),
    flops="x.a * x.b * x.c * x.k * x.l",
    constants={f"REDUCE_{name.upper()}": value for name, value in REDUCE_OPS.items()},
)
