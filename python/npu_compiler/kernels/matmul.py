"""Matrix multiplication kernels."""

from npu_compiler.kernels import panels
from npu_compiler.kernels.activation import EPILOGUE_FIELDS, EPILOGUE_RULES
from npu_compiler.kernels.conv import FLOAT_TYPES
from npu_compiler.kernels.record import Kernel, Launch, Operand

_TILES = "gemm_tiles.metal"
# 16 bytes of x's rows can be loaded at once, and of w's rows or, where it is transposed, columns.
_WIDE = (
    "x.sk == 1",
    "x.offset % 16 == 0",
    "x.sm * x.item % 16 == 0",
    "x.sb * x.item % 16 == 0",
    "x.k * x.item % 16 == 0",
    "w.offset % 16 == 0",
    "w.sb * w.item % 16 == 0",
    "(w.sk == 1 and w.sn * w.item % 16 == 0)"
    " or (w.sn == 1 and w.sk * w.item % 16 == 0 and w.n * w.item % 16 == 0)",
    "y.m >= 8",
)


def _grid(size: int) -> tuple[str, str, str]:
    return f"ceil_div(y.n, {size})", f"ceil_div(y.m, {size})", "y.b"


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
    schedules=(
        panels.large(_TILES, _WIDE, _grid(128)),
        panels.split(_TILES, _WIDE, ("y.n", "y.m"), "y.b", "x.k", ("y.n", "y.m", "y.b")),
        panels.whole("tiles", _TILES, _WIDE, _grid(64), (64, 64, 32)),
    ),
)
