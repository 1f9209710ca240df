"""Executors of a linked program's entry points, and runs that are prepared once and repeated."""

from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

import npu_compiler
from npu_compiler.compiled_program import CompiledProgram
from npu_runtime import Device, Executor, NPUBuffer, PreparedRun, load_weights
from npu_runtime.errors import ArgumentError, WeightError
from tests.npu_runtime.linked import ROWS, WIDTH, compiled, inputs, linked, model, state_dict


@pytest.fixture(params=["cpu", "reference"])
def device(request: pytest.FixtureRequest) -> Device:
    """Each device in turn."""
    return Device(request.param)


def cache_of(executor: Executor, device: Device) -> NPUBuffer:
    """An empty cache."""
    return NPUBuffer.from_numpy(
        np.zeros((ROWS, WIDTH), np.float32), device, spec=executor.entry.input_specs[2]
    )


def expected(tokens: int) -> np.ndarray:
    """PyTorch's logits after so many tokens at once."""
    with torch.no_grad():
        return model()(*inputs(tokens))[0].numpy()


def decode_inputs(step: int) -> dict[str, np.ndarray]:
    """Token and slot of one step."""
    ids, slots, _ = inputs(1, step)
    return {"tokens": ids.numpy(), "slots": slots.numpy()}


def test_prefill_then_decode_on_one_cache_and_one_weight_set(device: Device) -> None:
    program = linked()
    weights = load_weights(state_dict(), program, device)
    prefill = Executor(program, device)
    decode = Executor(program, device, entry="decode")
    assert prefill.entry.name == "prefill" and decode.entry.name == "decode"
    cache = cache_of(prefill, device)
    ids, slots, _ = inputs(8)
    logits, after = prefill.run({"tokens": ids, "slots": slots, "cache": cache}, weights).values()
    np.testing.assert_allclose(logits.to_numpy(), expected(8), rtol=1e-4, atol=1e-4)
    for step in range(8, 12):
        results = decode.run({**decode_inputs(step), "cache": after}, weights)
        logits, after = results.values()
        assert after.memory is cache.memory
    np.testing.assert_allclose(logits.to_numpy(), expected(12), rtol=1e-4, atol=1e-4)


def test_executors_share_what_is_loaded_and_bound() -> None:
    device, program = Device("cpu"), linked()
    weights = load_weights(state_dict(), program, device)
    first, second = Executor(program, device), Executor(program, device, entry="decode")
    assert first._loaded is second._loaded
    assert first._loaded.binding(weights) is second._loaded.binding(weights)
    assert Executor(program, Device("reference"))._loaded is not first._loaded
    assert Executor(CompiledProgram.from_bytes(program.to_bytes()), device)._loaded is not (
        first._loaded
    )


def test_entry_points_share_packed_weights() -> None:
    device = Device("cpu")

    def packed(program: CompiledProgram) -> int:
        weights = load_weights(state_dict(), program, device)
        return Executor(program, device)._loaded.binding(weights).packed_bytes

    small, large = compiled(24), compiled(32)
    assert packed(small) == packed(large) > 0
    assert packed(npu_compiler.link({"small": small, "large": large})) == packed(small)


def test_an_unknown_entry_point_is_named() -> None:
    with pytest.raises(ArgumentError, match=r"no entry point 'encode': the program has \['prefill"):
        Executor(linked(), Device("cpu"), entry="encode")


def test_a_file_of_a_linked_program_runs(tmp_path: Path) -> None:
    device = Device("cpu")
    linked().save(tmp_path / "linked.npubin")
    linked().path = None
    program = CompiledProgram.load(tmp_path / "linked.npubin")
    decode = Executor(program, device, entry="decode")
    weights = load_weights(state_dict(), program, device)
    result = decode.run({**decode_inputs(0), "cache": cache_of(decode, device)}, weights)
    np.testing.assert_allclose(result["select"].to_numpy(), expected(1), rtol=1e-4, atol=1e-4)


def prepared(device: Device) -> tuple[PreparedRun, NPUBuffer]:
    """A decode step over an empty cache."""
    program = linked()
    decode = Executor(program, device, entry="decode")
    cache = cache_of(decode, device)
    weights = load_weights(state_dict(), program, device)
    return decode.prepare({**decode_inputs(0), "cache": cache}, weights), cache


def test_a_prepared_run_goes_step_by_step_in_the_same_memory(device: Device) -> None:
    step, cache = prepared(device)
    address = cache.numpy_view().__array_interface__["data"]
    logits = step.outputs["output_0"]
    for token in range(6):
        for name, value in decode_inputs(token).items():
            step.inputs[name].write(value)
        assert step.run() is step.outputs
        np.testing.assert_allclose(logits.to_numpy(), expected(token + 1), rtol=1e-4, atol=1e-4)
    after = step.outputs["output_1"]
    assert after.memory is cache.memory
    assert after.numpy_view().__array_interface__["data"] == address
    assert step.inputs["input_2"] is cache
    times = step.run_profiled()[1]
    entry = linked().entry("decode").record
    assert [index for index, *_ in times] == list(
        range(entry.dispatch_first, entry.dispatch_first + entry.dispatch_count)
    )


def test_a_prepared_run_sees_changed_weights(device: Device) -> None:
    program = linked()
    decode = Executor(program, device, entry="decode")
    weights = load_weights(state_dict(), program, device)
    step = decode.prepare({**decode_inputs(0), "cache": cache_of(decode, device)}, weights)
    before = step.run()["select"].to_numpy()
    head = weights["head.weight"]
    values = 2 * head.to_numpy()
    other = NPUBuffer.from_numpy(values, device, spec=program.weight_specs[3])
    changed = {**weights, "head.weight": other}
    again = decode.prepare({**decode_inputs(0), "cache": cache_of(decode, device)}, changed)
    np.testing.assert_allclose(again.run()["select"].to_numpy(), 2 * before, rtol=1e-4)
    other.write(3 * head.to_numpy())
    np.testing.assert_allclose(again.run()["select"].to_numpy(), 3 * before, rtol=1e-4)


def test_a_repeated_run_allocates_nothing_that_stays() -> None:
    step, _ = prepared(Device("cpu"))
    values = decode_inputs(1)

    def repeat(count: int) -> None:
        for _ in range(count):
            for name, value in values.items():
                step.inputs[name].write(value)
            step.run()

    repeat(3)
    tracemalloc.start()
    repeat(1)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    repeat(50)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 2_000
    assert peak - before < 20_000


def test_bad_arguments_of_prepare_are_refused(device: Device) -> None:
    program = linked()
    decode = Executor(program, device, entry="decode")
    weights = load_weights(state_dict(), program, device)
    given = {**decode_inputs(0), "cache": cache_of(decode, device)}
    with pytest.raises(ArgumentError, match="missing 'slots'"):
        decode.prepare({k: v for k, v in given.items() if k != "slots"}, weights)
    with pytest.raises(ArgumentError, match=r"int64\[1\]"):
        decode.prepare({**given, "tokens": NPUBuffer.zeros((2,), device, "int64")}, weights)
    with pytest.raises(WeightError, match=r"missing 'head.weight'"):
        decode.prepare(given, {k: v for k, v in weights.items() if k != "head.weight"})


def test_threads_that_share_a_prepared_run_wait_for_each_other() -> None:
    step, _ = prepared(Device("cpu"))
    first = step.run()["select"].to_numpy()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(50):
                step.run()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    np.testing.assert_array_equal(step.outputs["select"].to_numpy(), first)
