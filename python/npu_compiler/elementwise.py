"""Elementwise programs: building them in registers, proving that padding stays zero, and encoding
them.

A Builder records scalar operations in SSA form over inputs (graph values or views). ``encode``
assigns physical registers and gives the code words of the elementwise kernel.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from npu_compiler.dtypes import DTYPES, FLOATING
from npu_compiler.graph import Value
from npu_compiler.kernels.scalar_ops import (
    BY_NAME,
    CONSTANT,
    CONSTANT_L,
    LOAD,
    MAX_INPUTS,
    MAX_INSTRUCTIONS,
    MAX_OUTPUTS,
    MAX_REGISTERS,
    STORE,
    Instruction,
    float_bits,
)
from npu_compiler.view import View


@dataclass(frozen=True, eq=False, slots=True)
class Accumulator:
    """The result of a reduction where the program that follows it loads it."""

    dtype: str


Handle = Value | View | Accumulator


class ProgramTooLargeError(Exception):
    """The chain needs more inputs, instructions or registers than an elementwise program has."""


@dataclass(frozen=True, slots=True)
class Register:
    """A value in the program: its number in SSA order and its type, ``f`` (float32), ``i`` (int32)
    or ``l`` (int64).
    """

    index: int
    type: str


Operand = Register | float | int | bool
# Scalar ops that convert between register types, by (from, to).
_CONVERSIONS = {(a, b): f"{a}_to_{b}" for a in "fil" for b in "fil" if a != b}
# Conversions that a formula's operands undergo by themselves, since they are exact or PyTorch's.
_WIDENINGS = frozenset({("i", "f"), ("i", "l"), ("l", "f")})
# Scalar ops that round a float32 register to a narrower dtype.
_ROUNDINGS = {"float16": "round_f16", "bfloat16": "round_bf16"}
# Scalar ops that bring an int32 register into the range of a narrower dtype.
_WRAPS = {"int16": "wrap_i16", "int8": "wrap_i8", "uint8": "wrap_u8"}


def register_type(dtype: str) -> str:
    """The type of the register that a tensor of ``dtype`` is loaded into."""
    return "f" if dtype in FLOATING else "l" if dtype == "int64" else "i"


@dataclass(frozen=True, slots=True)
class _Step:
    op: str  # a scalar op, "load" or "constant"
    type: str
    args: tuple[int, ...] = ()
    immediate: int | float = 0


def to_float32(value: float) -> float:
    """``value`` rounded to float32; beyond its range infinite."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


class Builder:
    """Records a program. Calling it appends a scalar op: ``b("mul_f", x, 0.5)``; numbers become
    constants, and operands of a narrower type than the op's are converted. ``b("mul", x, y)`` is
    the scalar op of the operands' widest type.
    """

    def __init__(self) -> None:
        self.steps: list[_Step] = []
        self.inputs: list[Handle] = []
        self._known: dict[tuple[object, ...], Register] = {}
        # The dtype that the operator being built computes in.
        self.dtype = "float32"

    def _append(self, key: tuple[object, ...], step: _Step) -> Register:
        if key not in self._known:
            self.steps.append(step)
            self._known[key] = Register(len(self.steps) - 1, step.type)
        return self._known[key]

    def load(self, handle: Handle) -> Register:
        """The value of an input, in a register of its ``register_type``."""
        if handle not in self.inputs:
            self.inputs.append(handle)
        step = _Step("load", register_type(handle.dtype), immediate=self.inputs.index(handle))
        return self._append(("load", handle), step)

    def constant(self, value: float, kind: str = "f") -> Register:
        """A float32 constant, or an integer one that wraps."""
        immediate: float = to_float32(float(value)) if kind == "f" else wrapped(int(value), kind)
        bits = _constant_bits(immediate, kind)
        return self._append(("constant", kind, bits), _Step("constant", kind, immediate=immediate))

    def as_type(self, operand: Operand, kind: str) -> Register:
        """``operand`` in a register of type ``kind``; i may widen to l, and both to f."""
        found = operand.type if isinstance(operand, Register) else kind
        if found != kind and (found, kind) not in _WIDENINGS:
            raise TypeError(f"a register of type {found} cannot stand where {kind} is needed")
        return self.convert(operand, kind)

    def convert(self, operand: Operand, kind: str) -> Register:
        """``operand`` in a register of type ``kind``, converted as PyTorch's ``to`` does: floats
        towards zero, integers by their low bits.
        """
        if not isinstance(operand, Register):
            return self.constant(operand, kind)
        if operand.type == kind:
            return operand
        return self(_CONVERSIONS[operand.type, kind], operand)

    def __call__(self, op: str, *operands: Operand) -> Register:
        record = BY_NAME.get(op) or BY_NAME[f"{op}_{_widest(operands)}"]
        op = record.name
        if len(operands) != len(record.args):
            raise TypeError(f"{op} takes {len(record.args)} operands, got {len(operands)}")
        args = tuple(self.as_type(o, t).index for o, t in zip(operands, record.args, strict=True))
        return self._append((op, *args), _Step(op, record.result, args))

    def truth(self, operand: Operand) -> Register:
        """``operand`` as a bool: an int32 register that is 0 or 1."""
        if not isinstance(operand, Register):
            return self.constant(bool(operand), "i")
        if self.is_bool(operand):
            return operand
        return self.negation(self(f"eq_{operand.type}", operand, 0))

    def is_bool(self, register: Register) -> bool:
        """Whether the register surely is 0 or 1."""
        step = self.steps[register.index]
        if step.op == "load":
            return self.inputs[int(step.immediate)].dtype == "bool"
        if step.op == "constant":
            return step.type == "i" and step.immediate in (0, 1)
        return BY_NAME[step.op].is_bool

    @staticmethod
    def is_integral(*operands: Operand) -> bool:
        """Whether no operand is a float."""
        return not any(
            o.type == "f" if isinstance(o, Register) else isinstance(o, float) for o in operands
        )

    def rounded(self, register: Register, dtype: str) -> Register:
        """A float32 register rounded to a narrower float dtype, still as float32."""
        return self(_ROUNDINGS[dtype], register) if dtype in _ROUNDINGS else register

    def negation(self, condition: Register) -> Register:
        """Not ``condition``, for an int32 register."""
        return self("eq_i", condition, 0)

    def result_for(self, result: Register, dtype: str) -> Register:
        """``result`` converted to ``dtype``, in the register type that a store to it reads.
        Integers wrap; floats keep float32's precision until they are stored.
        """
        if dtype == "bool":
            return self.truth(result)
        if dtype == "uint8" and result.type == "f":
            # PyTorch converts by way of int64, so that negative values wrap.
            result = self("f_to_l", result)
        converted = self.convert(result, register_type(dtype))
        if dtype not in _WRAPS or self._fits(converted, dtype):
            return converted
        return self(_WRAPS[dtype], converted)

    def _fits(self, register: Register, dtype: str) -> bool:
        """Whether the register surely is in the range of ``dtype``."""
        step = self.steps[register.index]
        loaded = self.inputs[int(step.immediate)].dtype if step.op == "load" else None
        return loaded == dtype or step.op == _WRAPS[dtype] or self.is_bool(register)

    def _live(self, results: Sequence[Register]) -> list[int]:
        live = {result.index for result in results}
        for index in range(len(self.steps) - 1, -1, -1):
            if index in live:
                live.update(self.steps[index].args)
        return sorted(live)

    def evaluate(self, result: Register, loads: Mapping[Handle, float | None]) -> float | None:
        """The result where it follows from known inputs alone, else None; ``loads`` maps inputs to
        values (None: unknown). Nothing is assumed of unknown values: zero times unknown is unknown.
        """
        known: dict[int, float | None] = {}
        for index in self._live([result]):
            step = self.steps[index]
            if step.op == "load":
                value = loads[self.inputs[int(step.immediate)]]
                known[index] = value if value is None or step.type == "f" else int(value)
            elif step.op == "constant":
                known[index] = step.immediate
            else:
                known[index] = _apply(step.op, [known[a] for a in step.args])
        return known[result.index]

    def used_inputs(self, *results: Register) -> list[Handle]:
        """The inputs that the results depend on, in the order in which ``encode`` numbers them."""
        live = set(self._live(results))
        slots = {int(s.immediate) for i, s in enumerate(self.steps) if s.op == "load" and i in live}
        return [self.inputs[slot] for slot in sorted(slots)]

    def encode(self, *results: Register) -> tuple[list[int], int]:
        """The code words and the number of instructions; stores the results to outputs 0, 1, ...

        All stores come last: an output may lie where an input was. Raises ProgramTooLargeError
        beyond the kernel's limits.
        """
        used = self.used_inputs(*results)
        if len(used) > MAX_INPUTS or len(results) > MAX_OUTPUTS:
            raise ProgramTooLargeError
        slots = {handle: slot for slot, handle in enumerate(used)}
        code = self.instructions(results, slots, range(len(results)))
        if len(code) > MAX_INSTRUCTIONS:
            raise ProgramTooLargeError
        return words_of(code), len(code)

    def instructions(
        self, results: Sequence[Register], slots: Mapping[Handle, int], outputs: Sequence[int]
    ) -> list[Instruction]:
        """The instructions that store the results to ``outputs``, with inputs numbered by
        ``slots``. Raises ProgramTooLargeError beyond the kernel's registers.
        """
        live = self._live(results)
        last_use = {a: i for i in live for a in self.steps[i].args}
        last_use |= {result.index: len(self.steps) for result in results}
        free = list(range(MAX_REGISTERS - 1, -1, -1))
        place: dict[int, int] = {}
        code: list[Instruction] = []
        for index in live:
            step = self.steps[index]
            args = [place[a] for a in step.args]
            free += [place[a] for a in dict.fromkeys(step.args) if last_use[a] == index]
            if not free:
                raise ProgramTooLargeError
            place[index] = free.pop()
            if step.op == "load":
                args = [slots[self.inputs[int(step.immediate)]]]
            code.append(_instruction(step, place[index], args))
        stores = zip(outputs, results, strict=True)
        return code + [Instruction(STORE, k, a=place[result.index]) for k, result in stores]


def words_of(code: Sequence[Instruction]) -> list[int]:
    """The code words of instructions."""
    return [word for instruction in code for word in instruction.words()]


def number_for(value: float, dtype: str) -> float:
    """A Python number as one of ``dtype``; integers wrap."""
    if dtype in FLOATING:
        return float(value)
    if dtype == "bool":
        return bool(value)
    bits = 8 * DTYPES[dtype].size
    low = 0 if dtype == "uint8" else -(1 << (bits - 1))
    return (int(value) - low) % (1 << bits) + low


def _widest(operands: Sequence[Operand]) -> str:
    """The type that registers of all the operands' types convert to."""
    types = {o.type for o in operands if isinstance(o, Register)}
    return next((kind for kind in "fl" if kind in types), "i")


def wrapped(value: int, kind: str) -> int:
    """``value`` modulo the range of an integer register type."""
    half = 1 << (63 if kind == "l" else 31)
    return (value + half) % (2 * half) - half


def _constant_bits(immediate: float, kind: str) -> int:
    if kind == "f":
        return float_bits(immediate)
    return int(immediate) & (0xFFFFFFFFFFFFFFFF if kind == "l" else 0xFFFFFFFF)


def _instruction(step: _Step, dst: int, args: list[int]) -> Instruction:
    if step.op == "load":
        return Instruction(LOAD, dst, a=args[0])
    if step.op == "constant":
        bits = _constant_bits(step.immediate, step.type)
        return Instruction(CONSTANT_L if step.type == "l" else CONSTANT, dst, immediate=bits)
    return Instruction(BY_NAME[step.op].id, dst, *args)


def _apply(op: str, args: list[float | None]) -> float | None:
    if op.startswith("select_") and args[0] is not None:
        return args[1] if args[0] else args[2]
    present = [a for a in args if a is not None]
    return BY_NAME[op].python(*present) if len(present) == len(args) else None
