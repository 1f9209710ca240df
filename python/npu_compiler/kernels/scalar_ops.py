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

from npu_compiler.kernels import scalar_python as py

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

    @property
    def cost(self) -> int:
        """What computing it costs, in additions, roughly; what tasks are sized by."""
        return _COSTS.get(self.name.rpartition("_")[0], 1)


_COSTS = {
    **dict.fromkeys(("sigmoid", "silu", "gelu", "gelu_tanh", "tanh", "erf", "exp", "exp2"), 10),
    **dict.fromkeys(("log", "log2", "log10", "log1p", "expm1", "sin", "cos", "hypot"), 12),
    **dict.fromkeys(("asin", "acos", "atan", "atan2", "sinh", "cosh", "tan", "erfc"), 20),
    **dict.fromkeys(("asinh", "acosh", "atanh", "logaddexp", "fmod", "remainder"), 30),
    **dict.fromkeys(("pow", "div_floor", "div_trunc"), 40),
}

# Loading, storing and constants are not formulas: the interpreters do them.
LOAD, STORE, CONSTANT, CONSTANT_L = 0, 1, 2, 33

SCALAR_OPS: tuple[ScalarOp, ...] = (
    ScalarOp(3, "add_f", "ff", "f", "a + b", lambda a, b: a + b),
    ScalarOp(4, "sub_f", "ff", "f", "a - b", lambda a, b: a - b),
    ScalarOp(5, "mul_f", "ff", "f", "a * b", lambda a, b: a * b),
    ScalarOp(6, "div_f", "ff", "f", "a / b", py.div),
    ScalarOp(7, "neg_f", "f", "f", "-a", lambda a: -a),
    ScalarOp(8, "abs_f", "f", "f", "npu_fabs(a)", abs),
    ScalarOp(9, "max_f", "ff", "f", "npu_max(a, b)", py.nan_max),
    ScalarOp(10, "min_f", "ff", "f", "npu_min(a, b)", py.nan_min),
    ScalarOp(11, "exp_f", "f", "f", "npu_exp(a)", py.exp),
    ScalarOp(12, "log_f", "f", "f", "npu_log(a)", py.log),
    ScalarOp(13, "sqrt_f", "f", "f", "npu_sqrt(a)", py.sqrt),
    ScalarOp(14, "rsqrt_f", "f", "f", "1.0f / npu_sqrt(a)", lambda a: py.div(1.0, py.sqrt(a))),
    ScalarOp(15, "tanh_f", "f", "f", "npu_tanh(a)", math.tanh),
    ScalarOp(16, "erf_f", "f", "f", "npu_erf(a)", math.erf),
    ScalarOp(17, "sigmoid_f", "f", "f", "npu_sigmoid(a)", py.sigmoid),
    ScalarOp(18, "lt_f", "ff", "i", "a < b ? 1 : 0", lambda a, b: int(a < b), True),
    ScalarOp(19, "le_f", "ff", "i", "a <= b ? 1 : 0", lambda a, b: int(a <= b), True),
    ScalarOp(20, "eq_f", "ff", "i", "a == b ? 1 : 0", lambda a, b: int(a == b), True),
    ScalarOp(21, "select_f", "iff", "f", "a != 0 ? b : c", lambda a, b, c: b if a else c),
    ScalarOp(22, "f_to_i", "f", "i", "npu_to_int(a)", py.to_int),
    ScalarOp(23, "i_to_f", "i", "f", "float(a)", float),
    ScalarOp(24, "add_i", "ii", "i", "npu_wrap_add(a, b)", lambda a, b: py.wrap(a + b)),
    ScalarOp(25, "sub_i", "ii", "i", "npu_wrap_sub(a, b)", lambda a, b: py.wrap(a - b)),
    ScalarOp(26, "mul_i", "ii", "i", "npu_wrap_mul(a, b)", lambda a, b: py.wrap(a * b)),
    ScalarOp(27, "max_i", "ii", "i", "a > b ? a : b", max),
    ScalarOp(28, "min_i", "ii", "i", "a < b ? a : b", min),
    ScalarOp(29, "lt_i", "ii", "i", "a < b ? 1 : 0", lambda a, b: int(a < b), True),
    ScalarOp(30, "eq_i", "ii", "i", "a == b ? 1 : 0", lambda a, b: int(a == b), True),
    ScalarOp(31, "select_i", "iii", "i", "a != 0 ? b : c", lambda a, b, c: b if a else c),
    ScalarOp(32, "copy", "f", "f", "a", lambda a: a),
    ScalarOp(34, "i_to_l", "i", "l", "npu_i64(a)", lambda a: a),
    ScalarOp(35, "l_to_i", "l", "i", "npu_i32(a)", py.wrap),
    ScalarOp(36, "l_to_f", "l", "f", "npu_f32(a)", float),
    ScalarOp(37, "f_to_l", "f", "l", "npu_to_long(a)", lambda a: py.to_int(a, 64)),
    ScalarOp(38, "add_l", "ll", "l", "npu_wrap_add(a, b)", lambda a, b: py.wrap64(a + b)),
    ScalarOp(39, "sub_l", "ll", "l", "npu_wrap_sub(a, b)", lambda a, b: py.wrap64(a - b)),
    ScalarOp(40, "mul_l", "ll", "l", "npu_wrap_mul(a, b)", lambda a, b: py.wrap64(a * b)),
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
    ScalarOp(52, "shl_i", "ii", "i", "npu_shift_left(a, b)", py.shift_left(32)),
    ScalarOp(53, "shr_i", "ii", "i", "npu_shift_right(a, b)", py.shift_right(32)),
    ScalarOp(54, "shl_l", "ll", "l", "npu_shift_left(a, b)", py.shift_left(64)),
    ScalarOp(55, "shr_l", "ll", "l", "npu_shift_right(a, b)", py.shift_right(64)),
    ScalarOp(
        56,
        "div_trunc_i",
        "ii",
        "i",
        "npu_div_trunc(a, b)",
        py.wrapping(py.div_trunc, 32),
    ),
    ScalarOp(
        57,
        "div_floor_i",
        "ii",
        "i",
        "npu_div_floor(a, b)",
        py.wrapping(py.div_floor, 32),
    ),
    ScalarOp(
        58,
        "div_trunc_l",
        "ll",
        "l",
        "npu_div_trunc(a, b)",
        py.wrapping(py.div_trunc, 64),
    ),
    ScalarOp(
        59,
        "div_floor_l",
        "ll",
        "l",
        "npu_div_floor(a, b)",
        py.wrapping(py.div_floor, 64),
    ),
    # Integers of fewer bits in an int32 register.
    ScalarOp(60, "wrap_i16", "i", "i", "npu_i32(npu_i16(a))", lambda a: py.wrap(a, 16)),
    ScalarOp(61, "wrap_i8", "i", "i", "npu_i32(npu_i8(a))", lambda a: py.wrap(a, 8)),
    ScalarOp(62, "wrap_u8", "i", "i", "a & 255", lambda a: a & 255),
    ScalarOp(63, "le_i", "ii", "i", "a <= b ? 1 : 0", lambda a, b: int(a <= b), True),
    ScalarOp(64, "le_l", "ll", "i", "a <= b ? 1 : 0", lambda a, b: int(a <= b), True),
    ScalarOp(65, "pow_i", "ii", "i", "npu_power(a, b)", py.power(32)),
    ScalarOp(66, "pow_l", "ll", "l", "npu_power(a, b)", py.power(64)),
    ScalarOp(67, "trunc_f", "f", "f", "npu_trunc(a)", py.integral(math.trunc)),
    ScalarOp(68, "floor_f", "f", "f", "npu_floor(a)", py.integral(math.floor)),
    ScalarOp(69, "ceil_f", "f", "f", "npu_ceil(a)", py.integral(math.ceil)),
    ScalarOp(70, "round_f", "f", "f", "npu_round(a)", py.integral(round)),
    ScalarOp(71, "fmod_f", "ff", "f", "npu_fmod(a, b)", py.total(math.fmod)),
    ScalarOp(72, "remainder_f", "ff", "f", "npu_remainder(a, b)", py.float_remainder),
    ScalarOp(73, "div_floor_f", "ff", "f", "npu_div_floor(a, b)", py.float_div_floor),
    ScalarOp(74, "exp2_f", "f", "f", "npu_exp2(a)", lambda a: py.float_power(2.0, a)),
    ScalarOp(75, "expm1_f", "f", "f", "npu_expm1(a)", py.total(math.expm1)),
    ScalarOp(76, "log1p_f", "f", "f", "npu_log1p(a)", py.log1p),
    ScalarOp(77, "log2_f", "f", "f", "npu_log2(a)", py.logarithm(math.log2)),
    ScalarOp(78, "log10_f", "f", "f", "npu_log10(a)", py.logarithm(math.log10)),
    ScalarOp(79, "logaddexp_f", "ff", "f", "npu_logaddexp(a, b)", py.logaddexp),
    ScalarOp(80, "pow_f", "ff", "f", "npu_pow(a, b)", py.float_power),
    ScalarOp(81, "hypot_f", "ff", "f", "npu_hypot(a, b)", math.hypot),
    ScalarOp(82, "sinh_f", "f", "f", "npu_sinh(a)", py.signed_total(math.sinh)),
    ScalarOp(83, "cosh_f", "f", "f", "npu_cosh(a)", py.total(math.cosh)),
    ScalarOp(84, "asinh_f", "f", "f", "npu_asinh(a)", math.asinh),
    ScalarOp(85, "acosh_f", "f", "f", "npu_acosh(a)", py.total(math.acosh)),
    ScalarOp(86, "atanh_f", "f", "f", "npu_atanh(a)", py.atanh),
    ScalarOp(87, "erfc_f", "f", "f", "npu_erfc(a)", math.erfc),
    ScalarOp(88, "sin_f", "f", "f", "npu_sin(a)", py.total(math.sin)),
    ScalarOp(89, "cos_f", "f", "f", "npu_cos(a)", py.total(math.cos)),
    ScalarOp(90, "tan_f", "f", "f", "npu_tan(a)", py.total(math.tan)),
    ScalarOp(91, "asin_f", "f", "f", "npu_asin(a)", py.total(math.asin)),
    ScalarOp(92, "acos_f", "f", "f", "npu_acos(a)", py.total(math.acos)),
    ScalarOp(93, "atan_f", "f", "f", "npu_atan(a)", math.atan),
    ScalarOp(94, "atan2_f", "ff", "f", "npu_atan2(a, b)", math.atan2),
    ScalarOp(95, "copysign_f", "ff", "f", "npu_copysign(a, b)", math.copysign),
    ScalarOp(96, "round_f16", "f", "f", "npu_round_f16(a)", py.round_f16),
    ScalarOp(97, "round_bf16", "f", "f", "npu_round_bf16(a)", py.round_bf16),
    ScalarOp(98, "silu_f", "f", "f", "npu_silu(a)", lambda a: a * py.sigmoid(a)),
    ScalarOp(99, "gelu_f", "f", "f", "npu_gelu(a)", py.gelu),
    ScalarOp(100, "gelu_tanh_f", "f", "f", "npu_gelu_tanh(a)", py.gelu_tanh),
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
