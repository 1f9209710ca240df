"""The linear layer of few or many rows whose weights are read where they are, with what surrounds
it: RMS norm, int8 weights, bias, activation, gate and residual.
"""

from npu_compiler.dtypes import BY_SHORT
from npu_compiler.kernels import panels
from npu_compiler.kernels.activation import EPILOGUE_FIELDS, EPILOGUE_RULES
from npu_compiler.kernels.conv import FLOAT_TYPES
from npu_compiler.kernels.record import Field, Kernel, Launch, Operand
from npu_compiler.kernels.schedule import Schedule, SharedArray, Stage

# By the name that lowerings use.
NORMS = {"none": 0, "rms": 1}

# 16 bytes of x's and w's rows can be loaded at once.
WIDE = (
    "x.sk == 1",
    "x.offset % 16 == 0",
    "x.sm * x.item % 16 == 0",
    "scale.sk == 1",
    "scale.offset % 16 == 0",
    "w.sk == 1",
    "w.offset % 16 == 0",
    "w.sn * w.item % 16 == 0",
    "w.sp * w.item % 16 == 0",
    "x.k * w.item % 16 == 0",
    f"w.dtype == x.dtype or w.dtype == {BY_SHORT['i8'].id}",
)
# Rows of weights from which on they fill a GPU, one SIMD group for four of them.
MANY_WEIGHTS = 8192
# An axis of a grid has at most 65535 threadgroups on some GPUs.
MOST_WEIGHTS = 1 << 19


def few_rows(name: str, rows: int, most: int) -> tuple[Schedule, ...]:
    """Schedules for at most ``most`` rows of x, ``rows`` to a threadgroup: its four SIMD groups
    have four rows of weights each, or four among them.
    """
    found = []
    for split, suffix in ((1, ""), (4, "_split")):
        columns = f"{16 // split} // w.p"
        launch = Launch(
            (f"ceil_div(y.m, {rows})", f"ceil_div(y.n, {columns})", "1"),
            (128, 1, 1),
            unit="threadgroups",
        )
        enough = (f"y.n * w.p >= {MANY_WEIGHTS}",) if split == 1 else ()
        # Sums of each SIMD group: four rows of weights times the rows of x.
        stage = Stage(launch, shared=(("partial", "f32", 16 * rows),))
        found.append(
            Schedule(
                f"{name}{suffix}",
                "linear_few.metal",
                (f"y.n <= {MOST_WEIGHTS}", *WIDE),
                (f"x.m <= {most}", *enough),
                (stage,),
            )
        )
    return tuple(found)


def many_rows() -> tuple[Schedule, ...]:
    """Schedules by tiles; one of two parts takes 64 columns of each."""
    shader = "linear_tiles.metal"
    one_part = ("w.p == 1", *WIDE)

    def scales(rows: int) -> tuple[SharedArray, ...]:
        return (("row_scale", "f32", rows),)

    large = ("ceil_div(y.n, 128 // w.p)", "ceil_div(y.m, 128)", "1")
    small = ("ceil_div(y.n, 64)", "ceil_div(y.m, 64)", "1")
    results = ("y.n", "y.m", "1")
    return (
        panels.large(shader, WIDE, large, scales(128)),
        panels.split(shader, one_part, ("y.n", "y.m"), "1", "x.k", results, scales(64)),
        panels.whole("tiles", shader, one_part, small, (64, 64, 32), scales(64)),
        panels.whole("tiles_pair", shader, WIDE, small, (64, 128, 16), scales(64)),
    )


LINEAR = Kernel(
    id=20,
    name="linear",
    shader="linear.metal",
    doc="""With h_q[m, n] = w_scale[q, n] * sum_k norm(x)[m, k] * w[q, n, k] + bias[q, n]: one part
    gives y = clamp(activation(h_0 + residual)), two parts give y = clamp(activation(h_0) * h_1 +
    residual), in float32 and rounded once.

    ``norm`` divides a row by the root of its mean square (plus eps), times ``scale``, in float32,
    rounded to x's dtype. ``w`` is of x's dtype, without w_scale, or int8, with it.""",
    operands=(
        Operand("x", ("m", "k")),
        Operand("scale", ("k",), dtype="f32", optional=True),
        Operand("w", ("p", "n", "k"), dtype="any"),
        Operand("w_scale", ("p", "n"), dtype="f32", optional=True),
        Operand("bias", ("p", "n"), dtype="f32", optional=True),
        Operand("residual", ("m", "n"), optional=True),
        Operand("y", ("m", "n"), access="write"),
    ),
    fields=(
        Field("norm", "u32", "what is done to x's rows, see NORMS"),
        Field("eps", "f32", "added to the mean square"),
        *EPILOGUE_FIELDS,
    ),
    launch=Launch(("ceil_div(y.n, 32)", "ceil_div(y.m, 32)", "1"), (64, 1, 1), unit="threadgroups"),
    types={"T": FLOAT_TYPES},
    requires=(
        "x.m == y.m",
        "x.k == w.k",
        "w.n == y.n",
        "w.p >= 1",
        "w.p <= 2",
        "scale.k == x.k",
        "scale.k == 0 or norm == 1",
        *(f"{o}.{axis} == w.{axis}" for o in ("w_scale", "bias") for axis in "pn"),
        *(f"residual.{axis} == y.{axis}" for axis in "mn"),
        f"norm <= {max(NORMS.values())}",
        *EPILOGUE_RULES,
    ),
    inplace=(("residual", "y"),),
    shared=(
        ("x_tile", "f32", 32 * 17),
        ("w_tile", "f32", 32 * 17),
        ("row_scale", "f32", 32),
    ),
    flops="2 * w.p * y.m * y.n * x.k",
    schedules=(*few_rows("row", 1, 1), *few_rows("rows", 4, 16), *many_rows()),
    constants={
        **{f"LINEAR_NORM_{name.upper()}": value for name, value in NORMS.items()},
        **panels.CONSTANTS,
    },
)
