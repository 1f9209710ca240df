"""Programs of the map_reduce kernel in tests: arrays as operands, and what NumPy makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npu_compiler.dtypes import DTYPES
from npu_compiler.kernels.map_reduce import (
    ACCUMULATOR_INPUT,
    ACCUMULATOR_OUTPUT,
    COMBINE_OPS,
)
from npu_compiler.kernels.scalar_ops import MAX_INSTRUCTIONS, Instruction
from tests.cpu.elementwise_code import load, store
from tests.cpu.single_dispatch import Array, SingleDispatch


def reduced(register: int) -> Instruction:
    """Load the accumulator."""
    return load(register, ACCUMULATOR_INPUT)


def hand_over(register: int) -> Instruction:
    """Store to the accumulator: the end of the map."""
    return store(ACCUMULATOR_OUTPUT, register)


def map_reduce(
    combine: str,
    dtype: str,
    map_code: Sequence[Instruction],
    finish_code: Sequence[Instruction],
    inputs: Sequence[Array],
    outputs: Sequence[Array],
    kind: str = "cpu",
) -> SingleDispatch:
    """Inputs of one shape of six axes, the last three of which are reduced; outputs have three."""
    code = [*map_code, *finish_code]
    words = [word for instruction in code for word in instruction.words()]
    fields = {
        "op": COMBINE_OPS[combine],
        "dtype": DTYPES[dtype].id,
        "num_map": len(map_code),
        "num_instructions": len(code),
        "code": words + [0] * (4 * MAX_INSTRUCTIONS - len(words)),
    }
    shape = np.broadcast_shapes(*(a.shape for a in inputs))
    operands = {f"in{k}": np.broadcast_to(a, shape) for k, a in enumerate(inputs)}
    operands |= {f"out{k}": a for k, a in enumerate(outputs)}
    return SingleDispatch("map_reduce", operands, fields, kind=kind)


def combined(combine: str, values: Array) -> Array:
    """``values`` combined over their last three axes; NaN wins in max and min."""
    function = {"sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min}[combine]
    result: Array = function(values, axis=(3, 4, 5))
    return result
