"""Scalar operations of elementwise programs: one record each, with its formula in the shader
dialect and in Python.

The formula serves every device: the reference shader's and the cpu device's interpreters are
generated from it. A register holds a float32 (type ``f``), an int32 (type ``i``; bools are 0 and 1)
or an int64 (type ``l``). Integer arithmetic wraps. Formulas may call only what every dialect header
defines.
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
    the format. ``is_bool``: the result is 0 or 1.
    """

    id: int
    name: str
    args: str
    result: str
    formula: str
    python: Callable[..., float | int]
    is_bool: bool = False


def _nan_max(a: float, b: float) -> float:
    return a if a != a else b if b != b else max(a, b)


def _nan_min(a: float, b: float) -> float:
    return a if a != a else b if b != b else min(a, b)


def _div(a: float, b: float) -> float:
    if b != 0:
        return a / b
    return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1, b)


def _wrap(value: int, bits: int = 32) -> int:
    """Integer arithmetic wraps, as PyTorch's does."""
    half = 1 << (bits - 1)
    return (value + half) % (2 * half) - half


def _wrap64(value: int) -> int:
    return _wrap(value, 64)


def _exp(a: float) -> float:
    try:
        return math.exp(a)
    except OverflowError:
        return math.inf


def _log(a: float) -> float:
    return math.log(a) if a > 0 else -math.inf if a == 0 else math.nan


def _sqrt(a: float) -> float:
    return math.sqrt(a) if a >= 0 else math.nan


def _to_int(a: float, bits: int = 32) -> int:
    limit = 1 << (bits - 1)
    return max(-limit, min(limit - 1, int(a))) if math.isfinite(a) else 0


def _div_trunc(a: int, b: int) -> int:
    """Rounded towards zero; 0 where ``b`` is (PyTorch raises)."""
    return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _div_floor(a: int, b: int) -> int:
    """Rounded down; 0 where ``b`` is (PyTorch raises)."""
    return 0 if b == 0 else a // b


def _shift_left(a: int, b: int, bits: int) -> int:
    return _wrap(a << b, bits) if 0 <= b < bits else 0


def _shift_right(a: int, b: int, bits: int) -> int:
    return a >> (b if 0 <= b < bits else bits - 1)


# Loading, storing and constants are not formulas: the interpreters do them.
LOAD, STORE, CONSTANT, CONSTANT_L = 0, 1, 2, 33

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
    ScalarOp(18, "lt_f", "ff", "i", "a < b ? 1 : 0", lambda a, b: int(a < b), True),
    ScalarOp(19, "le_f", "ff", "i", "a <= b ? 1 : 0", lambda a, b: int(a <= b), True),
    ScalarOp(20, "eq_f", "ff", "i", "a == b ? 1 : 0", lambda a, b: int(a == b), True),
    ScalarOp(21, "select_f", "iff", "f", "a != 0 ? b : c", lambda a, b, c: b if a else c),
    ScalarOp(22, "f_to_i", "f", "i", "npu_to_int(a)", _to_int),
    ScalarOp(23, "i_to_f", "i", "f", "float(a)", float),
    ScalarOp(24, "add_i", "ii", "i", "npu_wrap_add(a, b)", lambda a, b: _wrap(a + b)),
    ScalarOp(25, "sub_i", "ii", "i", "npu_wrap_sub(a, b)", lambda a, b: _wrap(a - b)),
    ScalarOp(26, "mul_i", "ii", "i", "npu_wrap_mul(a, b)", lambda a, b: _wrap(a * b)),
    ScalarOp(27, "max_i", "ii", "i", "a > b ? a : b", max),
    ScalarOp(28, "min_i", "ii", "i", "a < b ? a : b", min),
    ScalarOp(29, "lt_i", "ii", "i", "a < b ? 1 : 0", lambda a, b: int(a < b), True),
    ScalarOp(30, "eq_i", "ii", "i", "a == b ? 1 : 0", lambda a, b: int(a == b), True),
    ScalarOp(31, "select_i", "iii", "i", "a != 0 ? b : c", lambda a, b, c: b if a else c),
    ScalarOp(32, "copy", "f", "f", "a", lambda a: a),
    ScalarOp(34, "i_to_l", "i", "l", "npu_i64(a)", lambda a: a),
    ScalarOp(35, "l_to_i", "l", "i", "npu_i32(a)", _wrap),
    ScalarOp(36, "l_to_f", "l", "f", "npu_f32(a)", float),
    ScalarOp(37, "f_to_l", "f", "l", "npu_to_long(a)", lambda a: _to_int(a, 64)),
    ScalarOp(38, "add_l", "ll", "l", "npu_wrap_add(a, b)", lambda a, b: _wrap64(a + b)),
    ScalarOp(39, "sub_l", "ll", "l", "npu_wrap_sub(a, b)", lambda a, b: _wrap64(a - b)),
    ScalarOp(40, "mul_l", "ll", "l", "npu_wrap_mul(a, b)", lambda a, b: _wrap64(a * b)),
    ScalarOp(41, "max_l", "ll", "l", "a > b ? a : b", max),
    ScalarOp(42, "min_l", "ll", "l", "a < b ? a : b", min),
    ScalarOp(43, "lt_l", "ll", "i", "a < b ? 1 : 0", lambda a, b: int(a < b), True),
    ScalarOp(44, "eq_l", "ll", "i", "a == b ? 1 : 0", lambda a, b: int(a == b), True),
    ScalarOp(45, "select_l", "ill", "l", "a != 0 ? b : c", lambda a, b, c: b if a else c),
    ScalarOp(46, "and_i", "ii", "i", "a & b", lambda a, b: a & b),
    ScalarOp(47, "or_i", "ii", "i", "a | b", lambda a, b: a | b),
    ScalarOp(48, "xor_i", "ii", "i", "a ^ b", lambda a, b: a ^ b),
    ScalarOp(49, "and_l", "ll", "l", "a & b", lambda a, b: a & b),
    ScalarOp(50, "or_l", "ll", "l", "a | b", lambda a, b: a | b),
    ScalarOp(51, "xor_l", "ll", "l", "a ^ b", lambda a, b: a ^ b),
    ScalarOp(52, "shl_i", "ii", "i", "npu_shift_left(a, b)", lambda a, b: _shift_left(a, b, 32)),
    ScalarOp(53, "shr_i", "ii", "i", "npu_shift_right(a, b)", lambda a, b: _shift_right(a, b, 32)),
    ScalarOp(54, "shl_l", "ll", "l", "npu_shift_left(a, b)", lambda a, b: _shift_left(a, b, 64)),
    ScalarOp(55, "shr_l", "ll", "l", "npu_shift_right(a, b)", lambda a, b: _shift_right(a, b, 64)),
    ScalarOp(
        56, "div_trunc_i", "ii", "i", "npu_div_trunc(a, b)", lambda a, b: _wrap(_div_trunc(a, b))
    ),
    ScalarOp(
        57, "div_floor_i", "ii", "i", "npu_div_floor(a, b)", lambda a, b: _wrap(_div_floor(a, b))
    ),
    ScalarOp(
        58, "div_trunc_l", "ll", "l", "npu_div_trunc(a, b)", lambda a, b: _wrap64(_div_trunc(a, b))
    ),
    ScalarOp(
        59, "div_floor_l", "ll", "l", "npu_div_floor(a, b)", lambda a, b: _wrap64(_div_floor(a, b))
    ),
    # Integers of fewer bits in an int32 register.
    ScalarOp(60, "wrap_i16", "i", "i", "npu_i32(npu_i16(a))", lambda a: _wrap(a, 16)),
    ScalarOp(61, "wrap_i8", "i", "i", "npu_i32(npu_i8(a))", lambda a: _wrap(a, 8)),
    ScalarOp(62, "wrap_u8", "i", "i", "a & 255", lambda a: a & 255),
)
BY_NAME = {op.name: op for op in SCALAR_OPS}
# One more than the largest number of an instruction.
OP_LIMIT = max(op.id for op in SCALAR_OPS) + 1


@dataclass(frozen=True)
class Instruction:
    """One step of an elementwise program.

    LOAD: register ``dst`` = input ``a`` (int64 as ``l``, other integers and bools as ``i``, floats
        as ``f``). STORE: output ``dst`` = register ``a``, converted to the output's dtype.
        CONSTANT: register ``dst`` = the 32 bits of ``immediate``, as ``f`` or ``i``. CONSTANT_L:
        its 64 bits as ``l``. Otherwise dst = op(a, b, c).
    """

    op: int
    dst: int
    a: int = 0
    b: int = 0
    c: int = 0
    immediate: int = 0

    def words(self) -> tuple[int, int, int, int]:
        """The four u32 words of the program: op|dst<<8|a<<16|b<<24, c, and both halves of the
        immediate.
        """
        first = self.op | self.dst << 8 | self.a << 16 | self.b << 24
        return (first, self.c, self.immediate & 0xFFFFFFFF, self.immediate >> 32)


def float_bits(value: float) -> int:
    """The 32 bits of a float32 constant; raises OverflowError beyond float32."""
    return int.from_bytes(struct.pack("<f", value), "little")
