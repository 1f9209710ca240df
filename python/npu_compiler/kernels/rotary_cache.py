"""The rotary_cache kernel: what a decoder layer does between its projections and attention."""

from npu_compiler.kernels.conv import FLOAT_TYPES
from npu_compiler.kernels.record import Kernel, Launch, Operand

ROTARY_CACHE = Kernel(
    id=21,
    name="rotary_cache",
    shader="rotary_cache.metal",
    doc="""Rotates queries and keys by their position and puts keys and values into a cache.

    Of a head x the first 2 r elements are turned in pairs (i, i + r): x[i] cos[i] - x[i + r] sin[i]
    and x[i + r] cos[i] + x[i] sin[i], computed in float32 and rounded once; the others stay as they
    are. q_out holds the turned queries; row slots[b, t] (int64 or int32) of k_cache and v_cache
    takes the turned key and the value of token (b, t), of several tokens with one slot the last;
    c is 1 where all sequences share a cache's rows, else each has its own. Rows that no token
    names keep what they hold. A slot out of range writes nothing on GPUs and is
    an error on the host.""",
    operands=(
        Operand("q", ("b", "t", "h", "d")),
        Operand("k", ("b", "t", "g", "d")),
        Operand("v", ("b", "t", "g", "e")),
        Operand("cos", ("b", "t", "r"), dtype="any"),
        Operand("sin", ("b", "t", "r"), dtype="any"),
        Operand("slots", ("b", "t"), dtype="any"),
        Operand("q_out", ("b", "t", "h", "d"), access="write"),
        Operand("k_cache", ("c", "n", "g", "d"), access="write"),
        Operand("v_cache", ("c", "n", "g", "e"), access="write"),
    ),
    fields=(),
    launch=Launch(("q.h * q.d + k.g * k.d + v.g * v.e", "q.b * q.t", "1"), (64, 1, 1)),
    types={"T": FLOAT_TYPES},
    requires=(
        *(f"q_out.{axis} == q.{axis}" for axis in "bthd"),
        *(f"{x}.{axis} == q.{axis}" for x in ("k", "v", "cos", "sin", "slots") for axis in "bt"),
        "k.d == q.d",
        "v.g == k.g",
        "sin.r == cos.r",
        "2 * cos.r <= q.d",
        "k_cache.c == 1 or k_cache.c == q.b",
        "k_cache.g == k.g",
        "k_cache.d == k.d",
        "v_cache.c == k_cache.c",
        "v_cache.n == k_cache.n",
        "v_cache.g == v.g",
        "v_cache.e == v.e",
    ),
    flops="3 * q.b * q.t * (q.h + k.g) * 2 * cos.r",
    touches={"k_cache": "k.b * k.t * k.g * k.d", "v_cache": "v.b * v.t * v.g * v.e"},
)
