"""The gather kernel: elements picked by an index tensor."""

from npu_compiler.kernels.record import Field, Kernel, Launch, Operand

# Index operands are int64 or int32.
WRAP = Field("wrap", "u32", "1: a negative index counts from the end")

GATHER = Kernel(
    id=13,
    name="gather",
    shader="gather.metal",
    doc="""y[a, b, r, c] = x[a, b, idx[a, b, r, c], c]; x and y have one dtype. An index out of
    range reads zero on GPUs and is an error on the host.""",
    operands=(
        Operand("x", ("a", "b", "k", "c"), dtype="any"),
        Operand("idx", ("a", "b", "r", "c"), dtype="any"),
        Operand("y", ("a", "b", "r", "c"), dtype="any", access="write"),
    ),
    fields=(WRAP,),
    launch=Launch(("y.a * y.b * y.r * y.c", "1", "1"), (256, 1, 1)),
    types={},
    requires=(
        *(f"x.{axis} == y.{axis}" for axis in "abc"),
        *(f"idx.{axis} == y.{axis}" for axis in "abrc"),
        "wrap <= 1",
    ),
    flops="y.a * y.b * y.r * y.c",
    touches={"x": "y.a * y.b * y.r * y.c"},
)
