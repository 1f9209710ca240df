"""Scalar operations of elementwise programs: one record each, with its formula in the shader
dialect and in Python.

The formula serves every device: the reference shader's and the cpu device's interpreters are
generated from it. A register holds 32 bits, read as float32 (type ``f``) or int32 (type ``i``;
bools are 0 and 1). Formulas may call only what every dialect header defines.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass

MAX_REGISTERS = 32
MAX_INSTRUCTIONS = 64
MAX_INPUTS = 8
MAX_OUTPUTS = 4
# Iteration space of an elementwise dispatch; the compiler collapses dimensions to fit.
MAX_DIMS = 6


@dataclass(frozen=True)
class ScalarOp:
    """``result = formula(a, b, c)``; ``args`` gives the operand types, e.g. ``ff``. Ids are part of
    the format.
    """

    id: int
    name: str
    args: str
    result: str
    formula: str
    python: Callable[..., float | int]


def _nan_max(a: float, b: float) -> float:
    return a if a != a else b if b != b else max(a, b)


def _nan_min(a: float, b: float) -> float:
    return a if a != a else b if b != b else min(a, b)


def _div(a: float, b: float) -> float:
    if b != 0:
        return a / b
    return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1, b)


def _wrap(value: int) -> int:
    """int32 arithmetic wraps, as PyTorch's does."""
    return (value + 2**31) % 2**32 - 2**31


def _exp(a: float) -> float:
    try:
        return math.exp(a)
    except OverflowError:
        return math.inf


def _log(a: float) -> float:
    return math.log(a) if a > 0 else -math.inf if a == 0 else math.nan


def _sqrt(a: float) -> float:
    return math.sqrt(a) if a >= 0 else math.nan


def _to_int(a: float) -> int:
    return max(-(2**31), min(2**31 - 1, int(a))) if math.isfinite(a) else 0


# Loading, storing and constants are not formulas: the interpreters do them.
LOAD, STORE, CONSTANT = 0, 1, 2

SCALAR_OPS: tuple[ScalarOp, ...] = (
    ScalarOp(3, "add_f", "ff", "f", "a + b", lambda a, b: a + b),
    ScalarOp(4, "sub_f", "ff", "f", "a - b", lambda a, b: a - b),
    ScalarOp(5, "mul_f", "ff", "f", "a * b", lambda a, b: a * b),
    ScalarOp(6, "div_f", "ff", "f", "a / b", _div),
    ScalarOp(7, "neg_f", "f", "f", "-a", lambda a: -a),
    ScalarOp(8, "abs_f", "f", "f", "npu_fabs(a)", abs),
    ScalarOp(9, "max_f", "ff", "f", "npu_max(a, b)", _nan_max),
    ScalarOp(10, "min_f", "ff", "f", "npu_min(a, b)", _nan_min),
    ScalarOp(11, "exp_f", "f", "f", "npu_exp(a)", _exp),
    ScalarOp(12, "log_f", "f", "f", "npu_log(a)", _log),
    ScalarOp(13, "sqrt_f", "f", "f", "npu_sqrt(a)", _sqrt),
    ScalarOp(14, "rsqrt_f", "f", "f", "1.0f / npu_sqrt(a)", lambda a: _div(1.0, _sqrt(a))),
    ScalarOp(15, "tanh_f", "f", "f", "npu_tanh(a)", math.tanh),
    ScalarOp(16, "erf_f", "f", "f", "npu_erf(a)", math.erf),
    ScalarOp(
        17, "sigmoid_f", "f", "f", "1.0f / (1.0f + npu_exp(-a))", lambda a: 1 / (1 + _exp(-a))
    ),
    ScalarOp(18, "lt_f", "ff", "i", "a < b ? 1 : 0", lambda a, b: int(a < b)),
    ScalarOp(19, "le_f", "ff", "i", "a <= b ? 1 : 0", lambda a, b: int(a <= b)),
    ScalarOp(20, "eq_f", "ff", "i", "a == b ? 1 : 0", lambda a, b: int(a == b)),
    ScalarOp(21, "select_f", "iff", "f", "a != 0 ? b : c", lambda a, b, c: b if a else c),
    ScalarOp(22, "f_to_i", "f", "i", "npu_to_int(a)", _to_int),
    ScalarOp(23, "i_to_f", "i", "f", "float(a)", float),
    ScalarOp(24, "add_i", "ii", "i", "npu_wrap_add(a, b)", lambda a, b: _wrap(a + b)),
    ScalarOp(25, "sub_i", "ii", "i", "npu_wrap_sub(a, b)", lambda a, b: _wrap(a - b)),
    ScalarOp(26, "mul_i", "ii", "i", "npu_wrap_mul(a, b)", lambda a, b: _wrap(a * b)),
    ScalarOp(27, "max_i", "ii", "i", "a > b ? a : b", max),
    ScalarOp(28, "min_i", "ii", "i", "a < b ? a : b", min),
    ScalarOp(29, "lt_i", "ii", "i", "a < b ? 1 : 0", lambda a, b: int(a < b)),
    ScalarOp(30, "eq_i", "ii", "i", "a == b ? 1 : 0", lambda a, b: int(a == b)),
    ScalarOp(31, "select_i", "iii", "i", "a != 0 ? b : c", lambda a, b, c: b if a else c),
    ScalarOp(32, "copy", "f", "f", "a", lambda a: a),
)
BY_NAME = {op.name: op for op in SCALAR_OPS}


@dataclass(frozen=True)
class Instruction:
    """One step of an elementwise program.

    LOAD: register ``dst`` = input ``a`` (integers as int32, floats as float32). STORE: output
        ``dst`` = register ``a``, converted to the output's dtype. CONSTANT: register ``dst`` = the
        32 bits of ``immediate``. Otherwise dst = op(a, b, c).
    """

    op: int
    dst: int
    a: int = 0
    b: int = 0
    c: int = 0
    immediate: int = 0

    def words(self) -> tuple[int, int, int, int]:
        """The four u32 words of the program: op|dst<<8|a<<16|b<<24, c, immediate, 0."""
        return (self.op | self.dst << 8 | self.a << 16 | self.b << 24, self.c, self.immediate, 0)


def float_bits(value: float) -> int:
    """The 32 bits of a float32 constant; raises OverflowError beyond float32."""
    return int.from_bytes(struct.pack("<f", value), "little")
