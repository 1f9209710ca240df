"""The sort kernel: whole sorted rows, or only their first values (topk)."""

from npu_compiler.kernels.record import Field, Kernel, Launch, Operand

# Rows of up to this many values: the shader's work grows with the square of a row's length.
MAX_SORT_LENGTH = 1 << 18
_ROWS = ("a", "b", "c")

SORT = Kernel(
    id=12,
    name="sort",
    shader="sort.metal",
    doc=f"""The first k of the sorted values of x[a, b, c] and their indices; equal values keep
    their order and NaN is greater than all numbers. One thread per value counts how many come
    before it and stops when it is none of the first k. Rows of up to {MAX_SORT_LENGTH} values.""",
    operands=(
        Operand("x", (*_ROWS, "n"), dtype="any"),
        Operand("y", (*_ROWS, "k"), dtype="any", access="write"),
        Operand("index", (*_ROWS, "k"), dtype="i64", access="write"),
    ),
    fields=(Field("descending", "u32", "1: the greatest value first"),),
    launch=Launch(("x.a * x.b * x.c * x.n", "1", "1"), (256, 1, 1)),
    types={},
    requires=(
        *(f"{o}.{d} == x.{d}" for o in ("y", "index") for d in _ROWS),
        "index.k == y.k",
        "y.k <= x.n",
        f"x.n <= {MAX_SORT_LENGTH}",
        "descending <= 1",
    ),
    flops="x.a * x.b * x.c * x.n",
)
