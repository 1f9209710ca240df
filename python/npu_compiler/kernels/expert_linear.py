"""The linear layers of a mixture of experts: each row is multiplied by the weights of an expert of
its own, which are read where they are.
"""

from npu_compiler.dtypes import BY_SHORT
from npu_compiler.kernels.activation import ACTIVATIONS
from npu_compiler.kernels.conv import FLOAT_TYPES
from npu_compiler.kernels.gather import WRAP
from npu_compiler.kernels.record import Field, Kernel, Launch, Operand
from npu_compiler.kernels.schedule import Schedule, Stage

_SHADER = "expert_linear.metal"
# Four SIMD groups with four rows of weights each (of two parts, two of each).
_LAUNCH = Launch(
    ("y.t * y.c * ceil_div(y.n * w.p, 16)", "1", "1"), (128, 1, 1), unit="threadgroups"
)
_SUMS = (("sums", "f32", 16),)
# 16 bytes of x's and w's rows can be loaded at once.
_WIDE = (
    "x.sk == 1",
    "x.offset % 16 == 0",
    "x.st * x.item % 16 == 0",
    "x.sc * x.item % 16 == 0",
    "w.sk == 1",
    "w.offset % 16 == 0",
    *(f"w.s{axis} * w.item % 16 == 0" for axis in "epn"),
    "x.k * w.item % 16 == 0",
    f"w.dtype == x.dtype or w.dtype == {BY_SHORT['i8'].id}",
)

EXPERT_LINEAR = Kernel(
    id=27,
    name="expert_linear",
    shader=_SHADER,
    doc="""With h_q[t, c, n] = w_scale[e, q, n] * sum_k x[t, c, k] * w[e, q, n, k], e = expert[t, c]
    being choice c of token t: one part gives y = h_0, two parts give y = activation(h_0) * h_1, in
    float32 and rounded once.

    ``w`` is of x's dtype, without w_scale, or int8, with it; ``expert`` is int64 or int32. An
    expert out of range counts as zero on GPUs and is an error on the host.""",
    operands=(
        Operand("x", ("t", "c", "k")),
        Operand("expert", ("t", "c"), dtype="any"),
        Operand("w", ("e", "p", "n", "k"), dtype="any"),
        Operand("w_scale", ("e", "p", "n"), dtype="f32", optional=True),
        Operand("y", ("t", "c", "n"), access="write"),
    ),
    fields=(WRAP, Field("activation", "u32", "function applied to the gate, see ACTIVATIONS")),
    launch=_LAUNCH,
    types={"T": FLOAT_TYPES},
    requires=(
        *(f"{operand}.{axis} == y.{axis}" for operand in ("x", "expert") for axis in "tc"),
        "w.n == y.n",
        "w.k == x.k",
        *(f"w_scale.{axis} == w.{axis}" for axis in "epn"),
        "w.p >= 1",
        "w.p <= 2",
        "wrap <= 1",
        f"activation <= {max(ACTIVATIONS.values())}",
        "w.p == 2 or activation == 0",
    ),
    shared=_SUMS,
    flops="2 * w.p * y.t * y.c * y.n * x.k",
    touches={
        "w": "y.t * y.c * w.p * y.n * x.k",
        "w_scale": "y.t * y.c * w.p * y.n",
    },
    schedules=(Schedule("wide", _SHADER, _WIDE, (), (Stage(_LAUNCH, _SUMS),)),),
)
