"""Elementwise programs: building them in registers, proving that padding stays zero, and encoding
them.

A Builder records scalar operations in SSA form over inputs (graph values or views). ``encode``
assigns physical registers and gives the code words of the elementwise kernel.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from npu_compiler.dtypes import FLOATING
from npu_compiler.graph import Value
from npu_compiler.kernels.scalar_ops import (
    BY_NAME,
    CONSTANT,
    LOAD,
    MAX_INPUTS,
    MAX_INSTRUCTIONS,
    MAX_REGISTERS,
    STORE,
    Instruction,
    float_bits,
)
from npu_compiler.view import View

Handle = Value | View


class ProgramTooLargeError(Exception):
    """The chain needs more inputs, instructions or registers than an elementwise program has."""


@dataclass(frozen=True, slots=True)
class Register:
    """A value in the program: its number in SSA order and its type, ``f`` (float32) or ``i``
    (int32).
    """

    index: int
    type: str


Operand = Register | float | int | bool


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
    constants, and integer operands of float ops are converted.
    """

    def __init__(self) -> None:
        self.steps: list[_Step] = []
        self.inputs: list[Handle] = []
        self._known: dict[tuple[object, ...], Register] = {}

    def _append(self, key: tuple[object, ...], step: _Step) -> Register:
        if key not in self._known:
            self.steps.append(step)
            self._known[key] = Register(len(self.steps) - 1, step.type)
        return self._known[key]

    def load(self, handle: Handle) -> Register:
        """The value of an input; integers and bools are int32 registers."""
        if handle not in self.inputs:
            self.inputs.append(handle)
        kind = "f" if handle.dtype in FLOATING else "i"
        return self._append(
            ("load", handle), _Step("load", kind, immediate=self.inputs.index(handle))
        )

    def constant(self, value: float, kind: str = "f") -> Register:
        """A float32 (or int32) constant."""
        immediate: float = to_float32(float(value)) if kind == "f" else int(value)
        bits = float_bits(immediate) if kind == "f" else int(immediate) & 0xFFFFFFFF
        return self._append(("constant", kind, bits), _Step("constant", kind, immediate=immediate))

    def as_type(self, operand: Operand, kind: str) -> Register:
        """``operand`` in a register of type ``kind``; int32 may widen, float32 not."""
        if not isinstance(operand, Register):
            return self.constant(operand, kind)
        if operand.type == kind:
            return operand
        if kind == "i":
            raise TypeError("a float register cannot stand where an integer is needed")
        return self("i_to_f", operand)

    def __call__(self, op: str, *operands: Operand) -> Register:
        record = BY_NAME[op]
        if len(operands) != len(record.args):
            raise TypeError(f"{op} takes {len(record.args)} operands, got {len(operands)}")
        args = tuple(self.as_type(o, t).index for o, t in zip(operands, record.args, strict=True))
        return self._append((op, *args), _Step(op, record.result, args))

    def truth(self, operand: Operand) -> Register:
        """``operand`` as a bool: an int32 register that is 0 or 1."""
        if isinstance(operand, Register) and operand.type == "i":
            return operand
        return self.negation(self("eq_f", operand, 0.0))

    def negation(self, condition: Register) -> Register:
        """Not ``condition``, for an int32 register."""
        return self("eq_i", condition, 0)

    def result_for(self, result: Register, dtype: str) -> Register:
        """``result`` in the register type that a store to ``dtype`` reads."""
        if dtype == "bool":
            return self.truth(result)
        return self.as_type(result, "f" if dtype in FLOATING else "i")

    def _live(self, result: Register) -> list[int]:
        live = {result.index}
        for index in range(len(self.steps) - 1, -1, -1):
            if index in live:
                live.update(self.steps[index].args)
        return sorted(live)

    def evaluate(self, result: Register, loads: Mapping[Handle, float | None]) -> float | None:
        """The result where it follows from known inputs alone, else None; ``loads`` maps inputs to
        values (None: unknown). Nothing is assumed of unknown values: zero times unknown is unknown.
        """
        known: dict[int, float | None] = {}
        for index in self._live(result):
            step = self.steps[index]
            if step.op == "load":
                known[index] = loads[self.inputs[int(step.immediate)]]
            elif step.op == "constant":
                known[index] = step.immediate
            else:
                known[index] = _apply(step.op, [known[a] for a in step.args])
        return known[result.index]

    def used_inputs(self, result: Register) -> list[Handle]:
        """The inputs that the result depends on, in the order in which ``encode`` numbers them."""
        live = set(self._live(result))
        slots = {int(s.immediate) for i, s in enumerate(self.steps) if s.op == "load" and i in live}
        return [self.inputs[slot] for slot in sorted(slots)]

    def encode(self, result: Register) -> tuple[list[int], int]:
        """The code words and the number of instructions; stores ``result`` to output 0.

        Raises ProgramTooLargeError beyond the kernel's limits.
        """
        live = self._live(result)
        used = self.used_inputs(result)
        slots = {self.inputs.index(handle): slot for slot, handle in enumerate(used)}
        if len(used) > MAX_INPUTS or len(live) + 1 > MAX_INSTRUCTIONS:
            raise ProgramTooLargeError
        last_use = {a: i for i in live for a in self.steps[i].args}
        last_use[result.index] = len(self.steps)
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
                args = [slots[int(step.immediate)]]
            code.append(_instruction(step, place[index], args))
        code.append(Instruction(STORE, 0, a=place[result.index]))
        return [word for instruction in code for word in instruction.words()], len(code)


def _instruction(step: _Step, dst: int, args: list[int]) -> Instruction:
    if step.op == "load":
        return Instruction(LOAD, dst, a=args[0])
    if step.op == "constant":
        bits = float_bits(step.immediate) if step.type == "f" else int(step.immediate) & 0xFFFFFFFF
        return Instruction(CONSTANT, dst, immediate=bits)
    return Instruction(BY_NAME[step.op].id, dst, *args)


def _apply(op: str, args: list[float | None]) -> float | None:
    if op in ("select_f", "select_i") and args[0] is not None:
        return args[1] if args[0] else args[2]
    present = [a for a in args if a is not None]
    return BY_NAME[op].python(*present) if len(present) == len(args) else None
