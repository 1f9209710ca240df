"""Elementwise programs in tests: instructions by name, over arrays that broadcast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from npu_compiler.kernels.scalar_ops import (
    BY_NAME,
    CONSTANT,
    CONSTANT_L,
    LOAD,
    MAX_DIMS,
    MAX_INSTRUCTIONS,
    STORE,
    Instruction,
    float_bits,
)
from tests.cpu.single_dispatch import Array, SingleDispatch


def load(register: int, operand: int) -> Instruction:
    return Instruction(LOAD, register, operand)


def store(operand: int, register: int) -> Instruction:
    return Instruction(STORE, operand, register)


def constant(register: int, value: float) -> Instruction:
    return Instruction(CONSTANT, register, immediate=float_bits(value))


def wide_constant(register: int, value: int) -> Instruction:
    return Instruction(CONSTANT_L, register, immediate=value & 0xFFFFFFFFFFFFFFFF)


def op(name: str, register: int, *arguments: int) -> Instruction:
    return Instruction(BY_NAME[name].id, register, *arguments)


def elementwise(
    code: Sequence[Instruction],
    inputs: Sequence[Array],
    outputs: Sequence[Array],
    kind: str = "cpu",
) -> SingleDispatch:
    """A program over arrays that broadcast to the outputs' shape of at most six axes."""
    words = [word for instruction in code for word in instruction.words()]
    fields: dict[str, Any] = {"num_instructions": len(code)}
    fields["code"] = words + [0] * (4 * MAX_INSTRUCTIONS - len(words))
    shape = outputs[0].shape
    operands = {f"in{k}": six(np.broadcast_to(a, shape)) for k, a in enumerate(inputs)}
    operands |= {f"out{k}": six(a) for k, a in enumerate(outputs)}
    return SingleDispatch("elementwise", operands, fields, kind=kind)


def six(array: Array) -> Array:
    """The array with leading axes of extent 1."""
    return array[(None,) * (MAX_DIMS - array.ndim)]
