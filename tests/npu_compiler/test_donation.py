"""Inputs donated to outputs, and results that take over the memory of the tensor they update."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import npu_compiler
from npu_compiler.compiled_program import CompiledProgram
from npu_compiler.errors import CompileOptionError
from npu_runtime import Device, Executor, NPUBuffer
from tests.npu_compiler.harness import DEVICES, Function, check, images, ir_of, to_numpy

HEADS, TOKENS, SIZE = 2, 2048, 64
CACHE = (1, HEADS, TOKENS, SIZE)
ROW_BYTES = HEADS * SIZE * 4


def _step(
    keys: torch.Tensor, new: torch.Tensor, position: torch.Tensor, query: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One decoding step: the new token's key joins the cache, the query meets all of it."""
    keys = keys.index_copy(2, position, new * 2)
    return keys, query @ keys.transpose(2, 3)


def _inputs(position: int) -> tuple[torch.Tensor, ...]:
    return (
        images(*CACHE, seed=1),
        images(1, HEADS, 1, SIZE, seed=2),
        torch.tensor([position]),
        images(1, HEADS, 1, SIZE, seed=3),
    )


def _compiled(function: object, inputs: tuple[torch.Tensor, ...], *donated: str) -> CompiledProgram:
    ir = ir_of(Function(function), inputs)
    names = [tensor["name"] for tensor in ir["graph_inputs"]]
    return npu_compiler.compile(
        ir, compute_dtype="float32", donate_inputs=[names[int(d)] for d in donated]
    )


def _scattered(program: CompiledProgram) -> list[int]:
    return [call.bytes for call in program.kernel_calls if call.kernel_name == "scatter"]


def test_a_donated_cache_is_updated_in_place() -> None:
    program = _compiled(_step, _inputs(5), "0")
    assert program.metadata["copies"] == "0"
    # The index, the row read and the row written.
    assert _scattered(program) == [HEADS * SIZE * 8 + 2 * ROW_BYTES]
    assert program.arena_size <= 2 * ROW_BYTES
    assert program.entry_points[0].donors == (0, None)
    again = CompiledProgram.from_bytes(program.to_bytes())
    assert again.entry_points == program.entry_points
    # No channel padding: the two heads are no channels.
    assert program.input_specs[0].alloc_shape == CACHE


@pytest.mark.parametrize("kind", DEVICES)
def test_a_donated_cache_over_several_steps(kind: str) -> None:
    inputs = _inputs(0)
    program = _compiled(_step, inputs, "0")
    device = Device(kind)
    executor = Executor(program, device)
    names = [spec.name for spec in program.input_specs]
    cache = NPUBuffer.from_numpy(to_numpy(inputs[0]), device, spec=program.input_specs[0])
    expected = inputs[0]
    for position in (0, 2047, 7):
        _, new, at, query = _inputs(position)
        expected, scores = _step(expected, new, at, query)
        arrays = dict(zip(names[1:], map(to_numpy, (new, at, query)), strict=True))
        results = executor.run({names[0]: cache, **arrays}, {})
        outputs = [results[spec.name] for spec in program.output_specs]
        assert outputs[0].memory is cache.memory
        np.testing.assert_array_equal(
            outputs[0].to_numpy(spec=program.output_specs[0]), to_numpy(expected)
        )
        actual = outputs[1].to_numpy(spec=program.output_specs[1])
        np.testing.assert_allclose(actual, to_numpy(scores), rtol=1e-4, atol=1e-4)
        cache = outputs[0]


@pytest.mark.parametrize("kind", DEVICES)
def test_without_donation_the_input_and_earlier_outputs_stay(kind: str) -> None:
    inputs = _inputs(3)
    program = _compiled(_step, inputs)
    assert int(program.metadata["copies"]) == 1 and program.entry_points[0].donors == ()
    device = Device(kind)
    executor = Executor(program, device)
    names = [spec.name for spec in program.input_specs]
    cache = NPUBuffer.from_numpy(to_numpy(inputs[0]), device, spec=program.input_specs[0])
    arrays = dict(zip(names[1:], map(to_numpy, inputs[1:]), strict=True))
    spec = program.output_specs[0]
    first = executor.run({names[0]: cache, **arrays}, {})[spec.name]
    kept = first.to_numpy(spec=spec)
    executor.run({names[0]: cache, **arrays, names[2]: np.array([9])}, {})
    np.testing.assert_array_equal(first.to_numpy(spec=spec), kept)
    np.testing.assert_array_equal(cache.to_numpy(spec=program.input_specs[0]), to_numpy(inputs[0]))


def _assigned(keys: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    keys[:, :, 3:4] = new
    return keys


def _put(keys: torch.Tensor, new: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    keys[:, :, at] = new
    return keys


def _in_place(keys: torch.Tensor, new: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    keys.index_copy_(2, at, new)
    return keys


@pytest.mark.parametrize("function", [_put, _in_place], ids=lambda f: f.__name__)
def test_in_place_writes_to_a_donated_input(function: object) -> None:
    program = _compiled(function, _inputs(4)[:3], "0")
    assert program.metadata["copies"] == "0" and program.arena_size <= ROW_BYTES


def test_a_slice_assigned_to_a_donated_input_is_one_small_copy() -> None:
    program = _compiled(_assigned, _inputs(4)[:2], "0")
    assert program.metadata["copies"] == "1" and program.arena_size == 0
    assert [call.bytes for call in program.kernel_calls] == [2 * ROW_BYTES]


def test_two_caches_donated_at_once() -> None:
    def step(k: torch.Tensor, v: torch.Tensor, new: torch.Tensor, at: torch.Tensor) -> list:
        return [v.index_copy(2, at, new), k.index_copy(2, at, new + 1)]

    cache, new, at, _ = _inputs(4)
    program = _compiled(step, (cache, cache + 1, new, at), "0", "1")
    assert program.metadata["copies"] == "0" and program.entry_points[0].donors == (1, 0)


def test_a_donation_that_nothing_can_take_over() -> None:
    def reads_the_old(x: torch.Tensor, at: torch.Tensor, s: torch.Tensor) -> list[torch.Tensor]:
        return [x.index_copy(0, at, s), x * 2]

    inputs = (images(4, 3), torch.tensor([1]), images(1, 3))
    with pytest.raises(CompileOptionError, match="no output can take over its memory"):
        _compiled(reads_the_old, inputs, "0")
    with pytest.raises(CompileOptionError, match="no output can take over its memory"):
        _compiled(lambda x: x + 1, inputs[:1], "0")


def test_donating_what_is_no_input() -> None:
    ir = ir_of(Function(lambda x: x + 1), (images(2),))
    for names in (["nothing"], "x"):
        with pytest.raises(CompileOptionError, match="donate_inputs must name graph inputs"):
            npu_compiler.compile(ir, donate_inputs=names)


def _branches(x: torch.Tensor, at: torch.Tensor, s: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The old version is read after it has been updated, through a view and as a whole."""
    y = x * 2
    rows = y[1:]
    new = y.index_copy(0, at, s)
    newer = new.index_add(0, at, s)
    return rows + 1, new * 1, newer * 1, y.sum(0)


def test_updates_leave_what_is_read_later() -> None:
    result = check(Function(_branches), images(4, 3), torch.tensor([2]), images(1, 3))
    assert result.copies == 2


def test_an_update_takes_over_memory_that_nothing_else_needs() -> None:
    def chain(
        x: torch.Tensor, at: torch.Tensor, s: torch.Tensor, other: torch.Tensor
    ) -> torch.Tensor:
        return (x * 2).index_copy(0, at, s).index_add(0, at, s).index_fill(0, other, 3.0) + 1

    inputs = (images(4, 3), torch.tensor([2]), images(1, 3), torch.tensor([3]))
    result = check(Function(chain), *inputs)
    assert result.copies == 0
    assert result.kernels.count("scatter") == 3


def test_an_index_out_of_range_is_an_error_that_names_it() -> None:
    from npu_runtime.errors import ArgumentError

    functions = {
        "gather": lambda x, i: x.index_select(0, i),
        "scatter": lambda x, i: x.index_fill(0, i, 1.0),
    }
    for name, function in functions.items():
        program = _compiled(function, (images(4, 3), torch.tensor([0])))
        names = [spec.name for spec in program.input_specs]
        for kind in DEVICES:
            executor = Executor(program, Device(kind))
            for bad in (4, -1, 1 << 40, -(1 << 63)):
                arrays = {names[0]: np.ones((4, 3), np.float32), names[1]: np.array([bad])}
                with pytest.raises(ArgumentError, match=rf"kernel {name}.*index {bad} is out of"):
                    executor.run(arrays, {})
