"""The scan kernel: running sums, products and extremes along rows."""

from npu_compiler.kernels.record import Field, Kernel, Operand
from npu_compiler.kernels.reduce import ROW_LAUNCH, ROW_THREADS, SAME_ELEMENTS

# Values of the field ``op``; part of the .npubin format.
SCAN_OPS = {"sum": 0, "prod": 1, "max": 2, "min": 3, "logsumexp": 4}

SCAN = Kernel(
    id=11,
    name="scan",
    shader="scan.metal",
    doc="""y[a, b, c, k] = op over x[a, b, c, :k + 1]: in float32 where x is floating, else exact in
    int64 (logsumexp always in float32). max and min keep NaN once met and give the index of the
    last value that equals the extreme so far.""",
    operands=(
        Operand("x", ("a", "b", "c", "k"), dtype="any"),
        Operand("y", ("a", "b", "c", "k"), dtype="any", access="write"),
        Operand("index", ("a", "b", "c", "k"), dtype="i64", access="write", optional=True),
    ),
    fields=(Field("op", "u32", "what is accumulated, see SCAN_OPS"),),
    launch=ROW_LAUNCH,
    types={},
    requires=(
        *SAME_ELEMENTS,
        *(f"index.{d} == x.{d}" for d in "abck"),
        f"op <= {max(SCAN_OPS.values())}",
    ),
    inplace=(("x", "y"),),
    shared=(("totals", "i64", ROW_THREADS), ("places", "i64", ROW_THREADS)),
    flops="x.a * x.b * x.c * x.k",
    constants={f"SCAN_{name.upper()}": value for name, value in SCAN_OPS.items()},
)
