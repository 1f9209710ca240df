"""Elementwise programs on the reference device: scalar operations, conversions, broadcasting."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from npu_compiler.dtypes import DTYPES
from npu_compiler.elementwise import register_type
from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.scalar_ops import (
    BY_NAME,
    CONSTANT,
    CONSTANT_L,
    LOAD,
    MAX_INPUTS,
    MAX_INSTRUCTIONS,
    MAX_OUTPUTS,
    SCALAR_OPS,
    STORE,
    Instruction,
    ScalarOp,
    float_bits,
)
from tests.reference.layouts import Array, Placed, place
from tests.reference.native_library import NativeError, run_kernel

ELEMENTWISE = KERNELS["elementwise"]
NUMPY = {name: ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name) for name in DTYPES}
STORABLE = [name for name in DTYPES if name != "float64"]
FLOATS = [0.0, -0.0, 1.0, -1.5, 0.3, 2.5, 80.0, -80.0, 3e38, 1e-40, np.inf, -np.inf, np.nan]
INTS = [0, 1, -1, 7, -9, 2**31 - 1, -(2**31), 65536, 46341]
LONGS = [*INTS, 31, 63, 64, 2**31, 2**63 - 1, -(2**63), 3037000500, -(2**40) - 3]
REGISTERS: dict[str, tuple[list[float] | list[int], str]] = {
    "f": (FLOATS, "f4"),
    "i": (INTS, "i4"),
    "l": (LONGS, "i8"),
}


def run_program(
    code: list[Instruction], inputs: list[Array], outputs: list[Array], reverse: bool = False
) -> None:
    """Run ``code`` over arrays of one shape of at most six axes."""
    words = [word for instruction in code for word in instruction.words()]
    words += [0] * (4 * MAX_INSTRUCTIONS - len(words))
    expand = lambda a: a.reshape((1,) * (6 - a.ndim) + a.shape) if a.ndim < 6 else a  # noqa: E731
    arrays = {f"in{k}": expand(a) for k, a in enumerate(inputs)}
    arrays |= {f"out{k}": expand(a) for k, a in enumerate(outputs)}
    fields = {"num_instructions": len(code), "code": words}
    run_kernel(ELEMENTWISE, arrays, fields, reverse=reverse)


def operands(op: ScalarOp) -> list[Array]:
    """Every combination of interesting operand values."""
    values = [np.array(*REGISTERS[t]) for t in op.args]
    return [g.ravel() for g in np.meshgrid(*values, indexing="ij")]


@pytest.mark.parametrize("op", SCALAR_OPS, ids=lambda op: op.name)
def test_scalar_op(op: ScalarOp) -> None:
    arguments = operands(op)
    result = np.zeros(arguments[0].shape, REGISTERS[op.result][1])
    code = [Instruction(LOAD, k + 1, k) for k in range(len(arguments))]
    registers = [*range(1, len(arguments) + 1), 0, 0]
    code += [Instruction(op.id, 9, *registers[:3]), Instruction(STORE, 0, 9)]
    run_program(code, arguments, [result])
    with np.errstate(all="ignore"):
        want = np.array(
            [op.python(*(a.item() for a in row)) for row in zip(*arguments, strict=True)]
        )
        want = want.astype(result.dtype)
    if op.result in "il":
        np.testing.assert_array_equal(result, want)
    else:
        assert_ulp(result, want)


def assert_ulp(got: Array, want: Array, ulp: int = 4) -> None:
    """Equal NaN and infinities; else ``ulp`` float32 steps apart (sigmoid: exp, two roundings)."""
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite & ~np.isnan(want)], want[~finite & ~np.isnan(want)])
    error = np.abs(got[finite] - want[finite])
    assert (error <= ulp * np.spacing(np.abs(want[finite]))).all()


@pytest.mark.parametrize("target", STORABLE)
@pytest.mark.parametrize("source", STORABLE)
def test_load_and_store_every_dtype(source: str, target: str) -> None:
    """A copy through a register, converting where source and target have different ones."""
    rng = np.random.default_rng(0)
    kinds = register_type(source), register_type(target)
    x = values_of(rng, source)
    code = [Instruction(LOAD, 0, 0)]
    if kinds[0] != kinds[1]:
        code.append(Instruction(BY_NAME[f"{kinds[0]}_to_{kinds[1]}"].id, 0, 0))
        if target == "bool":
            x = (x != 0).astype(x.dtype)
    out = Placed(rng, x.shape, NUMPY[target])
    run_program([*code, Instruction(STORE, 0, 0)], [place(rng, x)], [out.array])
    with np.errstate(all="ignore"):
        steps = [np.dtype(REGISTERS[kind][1]) for kind in kinds]
        want = x.astype(steps[0]).astype(steps[1]).astype(NUMPY[target])
    np.testing.assert_array_equal(out.array.view(), want)
    out.assert_surroundings_untouched()


def values_of(rng: np.random.Generator, name: str) -> Array:
    if name == "bool":
        return rng.random((3, 1, 5, 2)) < 0.5
    if name.startswith(("float", "bfloat")):
        return (100 * rng.standard_normal((3, 1, 5, 2))).astype(np.float32).astype(NUMPY[name])
    info = np.iinfo(np.dtype(name))
    values: Array = rng.integers(info.min, info.max, (3, 1, 5, 2), dtype=name, endpoint=True)
    values.flat[:2] = info.min, info.max
    return values


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_broadcast_strided_program(reverse: bool) -> None:
    """relu(x * scale + bias) and x < 0, with two outputs of other layouts."""
    rng = np.random.default_rng(3)
    shape = (2, 3, 4, 5, 6, 7)
    x = rng.standard_normal(shape).astype(np.float32)
    scale = np.broadcast_to(rng.standard_normal((1, 3, 1, 1, 1, 1)).astype(np.float16), shape)
    bias = np.broadcast_to(rng.standard_normal(7).astype(np.float32), shape)
    y, negative = Placed(rng, shape, np.float32), Placed(rng, shape, np.bool_)
    code = [
        *(Instruction(LOAD, k, k) for k in range(3)),
        Instruction(BY_NAME["mul_f"].id, 3, 0, 1),
        Instruction(BY_NAME["add_f"].id, 3, 3, 2),
        Instruction(CONSTANT, 4, immediate=float_bits(0.0)),
        Instruction(BY_NAME["max_f"].id, 5, 3, 4),
        Instruction(BY_NAME["lt_f"].id, 6, 0, 4),
        *(Instruction(STORE, 0, 5), Instruction(STORE, 1, 6)),
    ]
    run_program(code, [place(rng, x), scale, bias], [y.array, negative.array], reverse)
    want = np.maximum(x.astype(np.float64) * scale.astype(np.float64) + bias, 0)
    np.testing.assert_allclose(y.array, want, rtol=2.0**-22, atol=2.0**-22)
    np.testing.assert_array_equal(negative.array, x < 0)
    y.assert_surroundings_untouched()
    negative.assert_surroundings_untouched()


def test_every_input_and_output() -> None:
    inputs: list[Array] = [np.full(4, k, np.int32) for k in range(MAX_INPUTS)]
    outputs: list[Array] = [np.zeros(4, np.int32) for _ in range(MAX_OUTPUTS)]
    code = [Instruction(LOAD, k, k) for k in range(MAX_INPUTS)]
    add = BY_NAME["add_i"].id
    code += [Instruction(add, 10 + k, k, k + MAX_OUTPUTS) for k in range(MAX_OUTPUTS)]
    code += [Instruction(STORE, k, 10 + k) for k in range(MAX_OUTPUTS)]
    run_program(code, inputs, outputs)
    assert [o[0] for o in outputs] == [2 * k + MAX_OUTPUTS for k in range(MAX_OUTPUTS)]


def test_int64_constant() -> None:
    y: Array = np.zeros(3, np.int64)
    value = -(2**62) - 5
    constant = Instruction(CONSTANT_L, 7, immediate=value & 0xFFFFFFFFFFFFFFFF)
    run_program([constant, Instruction(STORE, 0, 7)], [], [y])
    np.testing.assert_array_equal(y, value)


def test_in_place() -> None:
    x: Array = np.arange(1000, dtype=np.float16)
    neg = Instruction(BY_NAME["neg_f"].id, 0, 0)
    run_program([Instruction(LOAD, 0, 0), neg, Instruction(STORE, 0, 0)], [x], [x])
    np.testing.assert_array_equal(x, -np.arange(1000, dtype=np.float16))


def test_float64_is_refused() -> None:
    x: Any = np.zeros(4, np.float64)
    with pytest.raises(NativeError, match="in0 is float64"):
        run_program([Instruction(LOAD, 0, 0), Instruction(STORE, 0, 0)], [x], [x])
