"""The linear layer of few or many rows whose weights are read where they are, with what surrounds
it: RMS norm, int8 weights, bias, activation, gate and residual.
"""

from npu_compiler.kernels.activation import EPILOGUE_FIELDS, EPILOGUE_RULES
from npu_compiler.kernels.conv import FLOAT_TYPES
from npu_compiler.kernels.record import Field, Kernel, Launch, Operand

# By the name that lowerings use.
NORMS = {"none": 0, "rms": 1}

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
    constants={f"LINEAR_NORM_{name.upper()}": value for name, value in NORMS.items()},
)
