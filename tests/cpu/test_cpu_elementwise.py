"""Elementwise programs on the cpu device: every operation, dtype, layout and rewrite."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from npu_compiler.dtypes import DTYPES, FLOATING
from npu_compiler.elementwise import register_type
from npu_compiler.kernels.scalar_ops import SCALAR_OPS, ScalarOp
from tests.cpu.elementwise_code import constant, elementwise, load, op, store, wide_constant
from tests.cpu.single_dispatch import Array, place
from tests.reference.layouts import FLOATS, Placed, assert_close, normal
from tests.tolerances import tolerance

TYPES = pytest.mark.parametrize("short", FLOATS)
NUMPY: dict[str, Any] = {
    name: ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name) for name in DTYPES
}
EDGES = [0.0, -0.0, 1.0, -1.5, 0.3, 2.5, 80.0, -80.0, 3e38, 1e-40, np.inf, -np.inf, np.nan]
INTEGERS = [0, 1, -1, 7, -9, 2**31 - 1, -(2**31), 65536, 46341]
LONGS = [*INTEGERS, 31, 63, 64, 2**31, 2**63 - 1, -(2**63), 3037000500, -(2**40) - 3]
REGISTERS: dict[str, tuple[list[float] | list[int], str]] = {
    "f": (EDGES, "f4"),
    "i": (INTEGERS, "i4"),
    "l": (LONGS, "i8"),
}


@pytest.mark.parametrize("scalar", SCALAR_OPS, ids=lambda s: s.name)
def test_every_operation_on_edge_values(scalar: ScalarOp) -> None:
    values = [np.array(*REGISTERS[t]) for t in scalar.args]
    arguments = [np.ravel(g).copy() for g in np.meshgrid(*values, indexing="ij")]
    result = np.zeros(arguments[0].shape, REGISTERS[scalar.result][1])
    code = [load(k, k) for k in range(len(arguments))]
    code += [op(scalar.name, 9, *range(len(arguments))), store(0, 9)]
    elementwise(code, arguments, [result]).run_in_place()
    with np.errstate(all="ignore"):
        want = np.array(
            [scalar.python(*row) for row in zip(*(a.tolist() for a in arguments), strict=True)]
        )
        want = want.astype(result.dtype)
    if scalar.result in "il":
        np.testing.assert_array_equal(result, want)
    else:
        # Four float32 steps: sigmoid is an exp and three roundings.
        np.testing.assert_allclose(result, want, rtol=2.0**-21, atol=2.0**-149)


@TYPES
@pytest.mark.parametrize("seed", range(12), ids=lambda s: f"seed{s}")
def test_broadcast_and_strides_random(short: str, seed: int) -> None:
    """(x + y) * z - x over any layouts, where y and z repeat along some axes."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(v) for v in rng.choice([1, 2, 3, 17, 40], size=1 + seed % 5))
    x, y, z = (
        normal(rng, tuple(n if k == 0 or rng.random() < 0.5 else 1 for n in shape), FLOATS[short])
        for k in range(3)
    )
    out = Placed(rng, shape, x.dtype)
    code = [load(0, 0), load(1, 1), op("add_f", 1, 0, 1), load(2, 2), op("mul_f", 1, 1, 2)]
    code += [op("sub_f", 0, 1, 0), store(0, 0)]
    inputs = [a if rng.random() < 0.3 else place(rng, a) for a in (x, y, z)]
    elementwise(code, inputs, [out.array]).run_in_place()
    exact = [a.astype(np.float64) for a in (x, y, z)]
    want = (exact[0] + exact[1]) * exact[2] - exact[0]
    assert_close(out.array, want, *tolerance(x.dtype.name, 4))
    out.assert_surroundings_untouched()


CLOSINGS = {
    "add": ([op("add_f", 3, 0, 1)], lambda x, y: x + y),
    "add_relu": (
        [op("add_f", 3, 0, 1), constant(2, 0.0), op("max_f", 3, 3, 2)],
        lambda x, y: torch.relu(x + y),
    ),
    "add_relu6": (
        [
            constant(2, 0.0),
            constant(4, 6.0),
            op("add_f", 3, 1, 0),
            op("max_f", 3, 2, 3),
            op("min_f", 3, 3, 4),
        ],
        lambda x, y: torch.clamp(x + y, 0, 6),
    ),
    "min_then_max": (
        [constant(2, -1.0), constant(4, 1.0), op("min_f", 3, 0, 4), op("max_f", 3, 3, 2)],
        lambda x, y: torch.clamp(x, -1, 1),
    ),
    "empty_interval": (
        [constant(2, 2.0), constant(4, 1.0), op("max_f", 3, 0, 2), op("min_f", 3, 3, 4)],
        lambda x, y: torch.where(x.isnan(), x, 1.0),
    ),
    "clamp_to_nan": (
        [constant(2, float("nan")), op("max_f", 3, 0, 2)],
        lambda x, y: x * float("nan"),
    ),
    "double": ([op("add_f", 3, 1, 1)], lambda x, y: y + y),
    "sum_used_twice": (
        [op("add_f", 3, 0, 1), op("mul_f", 3, 3, 3)],
        lambda x, y: (x + y) ** 2,
    ),
    "relu_of_product": (
        [op("mul_f", 3, 0, 1), constant(2, 0.0), op("max_f", 3, 3, 2)],
        lambda x, y: torch.relu(x * y),
    ),
}  # fmt: skip


@TYPES
@pytest.mark.parametrize("closing", CLOSINGS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_padded", "transposed", "row_broadcast"])
def test_stores_that_take_over_the_last_operations_random_seed0(
    short: str, closing: str, layout: str
) -> None:
    rng = np.random.default_rng(0)
    dtype = FLOATS[short]
    x, y = normal(rng, (30, 120), dtype), normal(rng, (30, 120), dtype)
    x[0, :4] = np.array([np.nan, np.inf, -np.inf, -0.0], dtype)
    out = np.zeros((30, 128), dtype)[:, : 128 if layout == "contiguous" else 120]
    if layout == "contiguous":
        x, y = np.pad(x, ((0, 0), (0, 8))), np.pad(y, ((0, 0), (0, 8)))
    elif layout == "transposed":
        y = np.ascontiguousarray(y.T).T
    elif layout == "row_broadcast":
        y = y[:1].copy()
    code, function = CLOSINGS[closing]
    elementwise([load(0, 0), load(1, 1), *code, store(0, 3)], [x, y], [out]).run_in_place()
    exact = [torch.from_numpy(a.astype(np.float32)) for a in (x, y)]
    want = (function(*exact) + torch.zeros(out.shape)).numpy()
    assert_close(out, want.astype(np.float64), *tolerance(out.dtype.name, 2))


def test_in_place_chain_reads_before_it_writes() -> None:
    """out0 is the memory of in0; in0's value is read again after out0 is stored."""
    x = np.arange(5000, dtype=np.float32)
    old, other = x.copy(), np.zeros_like(x)
    code = [load(0, 0), op("add_f", 1, 0, 0), store(0, 1), op("mul_f", 2, 0, 1), store(1, 2)]
    elementwise(code, [x], [x, other]).run_in_place()
    np.testing.assert_array_equal(x, 2 * old)
    np.testing.assert_array_equal(other, old * (2 * old))


def test_float32_operands_of_several_outputs() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 3000)).astype(np.float32)
    outs = [np.zeros_like(x) for _ in range(4)]
    code = [load(0, 0), load(1, 1), store(0, 1), op("add_f", 2, 0, 1), store(1, 2)]
    code += [store(2, 0), op("max_f", 3, 0, 1), store(3, 3)]
    elementwise(code, [x, y], outs).run_in_place()
    for got, want in zip(outs, (y, x + y, x, np.maximum(x, y)), strict=True):
        np.testing.assert_array_equal(got, want)


def test_the_whole_register_file() -> None:
    """32 live registers, summed at the end: slots are neither lost nor shared."""
    x = np.linspace(-1, 1, 700, dtype=np.float32)
    out = np.zeros_like(x)
    code = [load(0, 0), constant(1, 1.0)]
    code += [op("add_f", r, r - 1, 1) if r > 2 else op("add_f", 2, 0, 1) for r in range(2, 32)]
    code += [op("add_f", 0, 0, r) for r in range(2, 31)] + [store(0, 0)]
    elementwise(code, [x], [out]).run_in_place()
    want = sum((x.astype(np.float64) + r - 1 for r in range(2, 31)), x.astype(np.float64))
    np.testing.assert_allclose(out, want, rtol=2e-6)


def stored(value: torch.Tensor, name: str) -> torch.Tensor:
    return value.to(getattr(torch, name))


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
@pytest.mark.parametrize("step", [1, 3])
def test_conversions_are_pytorchs(source: str, target: str, step: int) -> None:
    from_float, to_float = source in FLOATING, target in FLOATING
    values = torch.tensor([0, 1, -1, 2.5, -3.7, 100.4, -127, 255, 70000, 1e-7, 3.14159] * 9)
    if not from_float or not to_float:
        values = values.clamp(-128 if "u" not in target else 0, 127)
    x = stored(values, source)
    array = to_numpy(x, source)
    out = np.zeros(step * array.size, NUMPY[target])[::step]
    spread = np.repeat(array, step)[::step] if step > 1 else array
    kinds = register_type(source), register_type(target)
    convert = [] if kinds[0] == kinds[1] else [op(f"{kinds[0]}_to_{kinds[1]}", 0, 0)]
    if target == "bool":
        zero = wide_constant(1, 0) if kinds[0] == "l" else constant(1, 0.0)
        convert = [zero, op(f"eq_{kinds[0]}", 0, 0, 1), constant(2, 0.0), op("eq_i", 0, 0, 2)]
    elementwise([load(0, 0), *convert, store(0, 0)], [spread], [out]).run_in_place()
    want = to_numpy(stored(x.float() if source == "float64" else x, target), target)
    np.testing.assert_array_equal(out.astype(np.float64), want.astype(np.float64))


def to_numpy(tensor: torch.Tensor, name: str) -> Array:
    if name == "bfloat16":
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    array: Array = tensor.numpy()
    return array


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "row"])
def test_integers_are_exact_beyond_float32(layout: str) -> None:
    """int64 beside int32, bool and float32 registers, in memory of any order."""
    rng = np.random.default_rng(0)
    a = rng.integers(-(2**63), 2**63, (90, 70))
    b = rng.integers(-(2**31), 2**31, (90, 70)).astype("i4")
    if layout == "transposed":
        a = np.ascontiguousarray(a.T).T
    elif layout == "row":
        a = a[:1].copy()
    outs = [np.zeros(b.shape, d) for d in ("i8", "i4", "?", "f4")]
    code = [load(0, 0), load(1, 1), op("i_to_l", 2, 1), op("mul_l", 3, 0, 2), store(0, 3)]
    code += [op("l_to_i", 4, 3), op("add_i", 4, 4, 1), store(1, 4)]
    code += [wide_constant(5, 2**40 + 1), op("lt_l", 6, 0, 5), store(2, 6)]
    code += [op("l_to_f", 7, 0), store(3, 7)]
    elementwise(code, [a, b], outs).run_in_place()
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(outs[0], a * b)
        np.testing.assert_array_equal(outs[1], (a * b).astype("i4") + b)
    np.testing.assert_array_equal(outs[2], np.broadcast_to(a < 2**40 + 1, b.shape))
    np.testing.assert_array_equal(outs[3], np.broadcast_to(a.astype("f4"), b.shape))


@TYPES
def test_rounding_to_nearest_even_of_every_half(short: str) -> None:
    """Stores round as PyTorch does, for values on and beside every tie of 16 bits."""
    half = np.arange(0x7F80 if short == "bf16" else 0x7C00, dtype=np.uint32)
    bits = (half << 16) + 0x8000 if short == "bf16" else None
    if bits is None:
        exact = half.astype(np.uint16).view(np.float16).astype(np.float32)
        bits = (exact.view(np.uint32)) + 0x1000
    x = np.concatenate([bits - 1, bits, bits + 1]).astype(np.uint32).view(np.float32)
    out = np.zeros(x.shape, FLOATS[short])
    elementwise([load(0, 0), store(0, 0)], [x], [out]).run_in_place()
    want = torch.from_numpy(x).to(getattr(torch, out.dtype.name)).float().numpy()
    np.testing.assert_array_equal(out.astype(np.float32), want)
