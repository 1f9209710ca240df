"""The scatter kernel: elements of a tensor replaced or updated in place."""

from npu_compiler.kernels.gather import WRAP
from npu_compiler.kernels.record import Field, Kernel, Launch, Operand

# Values of the field ``op``; part of the .npubin format.
SCATTER_OPS = {"set": 0, "add": 1, "mul": 2, "amax": 3, "amin": 4}

SCATTER = Kernel(
    id=14,
    name="scatter",
    shader="scatter.metal",
    doc="""y[a, b, idx[a, b, r, c], c] op= src[a, b, r, c], for r in order: the last one wins. y
    keeps its other elements. Floats are combined in float32, integers in int64. An index out of
    range writes nothing on GPUs and is an error on the host.""",
    operands=(
        Operand("idx", ("a", "b", "r", "c"), dtype="any"),
        Operand("src", ("a", "b", "r", "c"), dtype="any"),
        Operand("y", ("a", "b", "k", "c"), dtype="any", access="write"),
    ),
    fields=(Field("op", "u32", "how y and src are combined, see SCATTER_OPS"), WRAP),
    # One thread walks all updates of a column of y, so the order is the same everywhere.
    launch=Launch(("y.a * y.b * y.c", "1", "1"), (64, 1, 1)),
    types={},
    requires=(
        *(f"idx.{axis} == src.{axis}" for axis in "abrc"),
        *(f"idx.{axis} == y.{axis}" for axis in "abc"),
        f"op <= {max(SCATTER_OPS.values())}",
        "wrap <= 1",
    ),
    flops="idx.a * idx.b * idx.r * idx.c",
    constants={f"SCATTER_{name.upper()}": value for name, value in SCATTER_OPS.items()},
    touches={"y": "src.a * src.b * src.r * src.c"},
)
