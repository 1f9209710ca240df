"""The row normalisation kernel: layer, group, instance and RMS norm."""

from npu_compiler.kernels.conv import FLOAT_TYPES
from npu_compiler.kernels.record import Field, Kernel, Launch, Operand
from npu_compiler.kernels.reduce import ROW_THREADS

_AXES = ("a", "b", "k", "l")

ROW_NORM = Kernel(
    id=9,
    name="row_norm",
    shader="row_norm.metal",
    doc="""Normalises rows (a, b) of elements (k, l) in float32: y = (h - mean) / sqrt(var + eps)
    * w + bias, where h = x + residual, rounded to x's dtype and stored as ``sum``. The variance is
    around the mean; with ``rms`` the mean is taken as 0.""",
    operands=(
        Operand("x", _AXES),
        Operand("w", _AXES, dtype="any", optional=True),
        Operand("bias", _AXES, dtype="any", optional=True),
        Operand("residual", _AXES, optional=True),
        Operand("y", _AXES, dtype="any", access="write"),
        Operand("sum", _AXES, access="write", optional=True),
    ),
    fields=(
        Field("eps", "f32", "added to the variance"),
        Field("rms", "u32", "1: no mean is subtracted"),
    ),
    launch=Launch(("x.a * x.b", "1", "1"), (ROW_THREADS, 1, 1), unit="threadgroups"),
    types={"T": FLOAT_TYPES},
    requires=(
        *(f"{o}.{d} == x.{d}" for o in ("w", "bias", "residual", "y", "sum") for d in _AXES),
        "rms <= 1",
    ),
    inplace=(("x", "y"), ("x", "sum"), ("residual", "y"), ("residual", "sum")),
    shared=(("partial", "f32", 8),),
    flops="8 * x.a * x.b * x.k * x.l",
)
