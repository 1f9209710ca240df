"""Matrix multiplication kernels."""

from npu_compiler.kernels.activation import EPILOGUE_FIELDS, EPILOGUE_RULES
from npu_compiler.kernels.conv import FLOAT_TYPES
from npu_compiler.kernels.record import Kernel, Launch, Operand

GEMM = Kernel(
    id=2,
    name="gemm",
    shader="gemm.metal",
    doc="""Batched y[b, m, n] = clamp(activation(sum_k x[b, m, k] * w[b, n, k] + bias[n] +
    residual[b, m, n])), in float32 and rounded once.

    ``w`` holds one row per output column, as torch's Linear; transposed or broadcast operands are
    strides.""",
    operands=(
        Operand("x", ("b", "m", "k")),
        Operand("w", ("b", "n", "k")),
        Operand("bias", ("n",), dtype="f32", optional=True),
        Operand("residual", ("b", "m", "n"), optional=True),
        Operand("y", ("b", "m", "n"), access="write"),
    ),
    fields=EPILOGUE_FIELDS,
    launch=Launch(
        ("ceil_div(y.n, 32)", "ceil_div(y.m, 32)", "y.b"), (64, 1, 1), unit="threadgroups"
    ),
    types={"T": FLOAT_TYPES},
    requires=(
        "x.b == y.b",
        "w.b == y.b",
        "x.m == y.m",
        "w.n == y.n",
        "x.k == w.k",
        "bias.n == y.n",
        "residual.b == y.b",
        "residual.m == y.m",
        "residual.n == y.n",
        *EPILOGUE_RULES,
    ),
    inplace=(("residual", "y"),),
    shared=(("x_tile", "f32", 32 * 17), ("w_tile", "f32", 32 * 17)),
    flops="2 * y.b * y.m * y.n * x.k",
)
