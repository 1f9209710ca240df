"""Random elementwise programs that the verifier would pass, over operands of many layouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from npu_compiler.dtypes import DTYPES
from npu_compiler.elementwise import register_type
from npu_compiler.kernels.scalar_ops import (
    CONSTANT,
    CONSTANT_L,
    LOAD,
    MAX_INSTRUCTIONS,
    SCALAR_OPS,
    STORE,
    Instruction,
    ScalarOp,
    float_bits,
)
from tests.reference.layouts import Array

STORABLE = [name for name in DTYPES if name != "float64"]
SPECIAL = [0.0, -0.0, 1.0, -1.5, 80.0, -80.0, 3e38, 1e-40, np.inf, -np.inf, np.nan]
# Constants by register type.
CONSTANTS: dict[str, list[int]] = {
    "f": [float_bits(v) for v in (0.5, -2.0, 1e-3, float("inf"))],
    "i": [0, 1, 3, 31, 0x80000000, 0xFFFFFFFF],
    "l": [0, 5, 63, 2**63, 2**64 - 7],
}


@dataclass
class RandomProgram:
    """Instructions, and operands with six axes each."""

    code: list[Instruction]
    inputs: list[Array]
    outputs: list[Array]

    def fields(self) -> dict[str, Any]:
        """The fields of the dispatch."""
        words = [word for instruction in self.code for word in instruction.words()]
        padding = [0] * (4 * MAX_INSTRUCTIONS - len(words))
        return {"num_instructions": len(self.code), "code": words + padding}

    def operands(self, outputs: list[Array]) -> dict[str, Array]:
        """The operands of the dispatch, with these outputs."""
        found = {f"in{k}": a for k, a in enumerate(self.inputs)}
        return found | {f"out{k}": a for k, a in enumerate(outputs)}


def numpy_dtype(name: str) -> Any:
    """The NumPy dtype of a storage dtype."""
    return ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name)


def _values(rng: np.random.Generator, shape: tuple[int, ...], name: str) -> Array:
    if name == "bool":
        return rng.random(shape) < 0.5
    if register_type(name) == "f":
        values = (3 * rng.standard_normal(shape)).astype(np.float32)
        mask = rng.random(shape) < 0.2
        values[mask] = rng.choice(np.array(SPECIAL, np.float32), int(mask.sum()))
        with np.errstate(over="ignore"):
            converted: Array = values.astype(numpy_dtype(name))
        return converted
    info = np.iinfo(np.dtype(name))
    return rng.integers(info.min, info.max, shape, dtype=name, endpoint=True)


def _shape(rng: np.random.Generator, together: bool) -> tuple[int, ...]:
    extents = [int(v) for v in rng.integers(1, 6, 6)]
    for axis in rng.choice(6, int(rng.integers(2, 6)), replace=False):
        extents[axis] = 1
    extents[5] = int(rng.choice([4, 8, 24] if together else [1, 3, 4, 7]))
    return tuple(extents)


def _laid_out(rng: np.random.Generator, values: Array, kinds: list[str]) -> Array:
    """The values contiguous, with gaps between rows, in another order of axes, or broadcast."""
    kind = rng.choice(kinds)
    if kind == "gaps":
        wide = np.zeros(
            (*values.shape[:-1], values.shape[-1] + int(rng.choice([1, 4]))), values.dtype
        )
        placed = wide[..., : values.shape[-1]]
        placed[...] = values
        return placed
    if kind == "order":
        order = rng.permutation(6)
        return np.ascontiguousarray(values.transpose(order)).transpose(np.argsort(order))
    if kind == "broadcast":
        kept = tuple(slice(None) if rng.random() < 0.4 else slice(1) for _ in range(6))
        return np.broadcast_to(values[kept].copy(), values.shape)
    return values.copy()


def random_program(seed: int, required: list[ScalarOp]) -> RandomProgram:
    """A program that computes every operation of ``required`` and some more."""
    rng = np.random.default_rng(seed)
    # Half of them are such that four elements can go together.
    together = rng.random() < 0.5
    shape = _shape(rng, together)
    layouts = ["dense"] if together else ["dense", "gaps", "order"]
    kinds = [str(rng.choice(STORABLE)) for _ in range(int(rng.integers(1, 5)))]
    code: list[Instruction] = []
    # Type of what each register holds; registers are written again and again.
    held: dict[int, str] = {}

    def target(kind: str) -> int:
        # Two of each type are kept, so that there is always something to read.
        free = [r for r in range(32) if r not in held or list(held.values()).count(held[r]) > 2]
        register = int(rng.choice(free))
        held[register] = kind
        return register

    def constant(kind: str) -> None:
        op = CONSTANT_L if kind == "l" else CONSTANT
        value = int(rng.choice(np.array(CONSTANTS[kind], np.uint64)))
        code.append(Instruction(op, target(kind), immediate=value))

    def source(kind: str) -> int:
        return int(rng.choice([r for r, t in held.items() if t == kind]))

    for kind in ("f", "i", "l"):
        constant(kind)
    for k, name in enumerate(kinds):
        code.append(Instruction(LOAD, target(register_type(name)), k))
    ops = [*required, *(SCALAR_OPS[i] for i in rng.integers(0, len(SCALAR_OPS), 6))]
    for op in ops:
        registers = [*(source(t) for t in op.args), 0, 0]
        code.append(Instruction(op.id, target(op.result), *registers[:3]))
        if rng.random() < 0.2:
            constant(str(rng.choice(["f", "i", "l"])))
    outputs = [str(rng.choice(STORABLE)) for _ in range(int(rng.integers(1, 4)))]
    for k, name in enumerate(outputs):
        code.append(Instruction(STORE, k, source(register_type(name))))
        if rng.random() < 0.1:
            code.append(Instruction(LOAD, target(register_type(kinds[0])), 0))
    inputs = [_laid_out(rng, _values(rng, shape, name), [*layouts, "broadcast"]) for name in kinds]
    made = [_laid_out(rng, np.zeros(shape, numpy_dtype(name)), layouts) for name in outputs]
    return RandomProgram(code, inputs, made)
