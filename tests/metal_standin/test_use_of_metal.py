"""How the Metal device uses Metal: how many messages, what lives how long, threads, timestamps."""

from __future__ import annotations

import gc
import threading
from itertools import pairwise

import numpy as np
import pytest
import torch

from npu_runtime import Executor, load_weights
from npu_runtime.device import Device
from npu_runtime.errors import ArgumentError
from tests.metal_standin.messages import BARRIER, COMMIT, DISPATCH, QUEUE, WAIT
from tests.metal_standin.models import chain, is_right, run_chain
from tests.metal_standin.standin import Standin
from tests.metal_standin.test_ops import run
from tests.npu_compiler.harness import Function, images, ir_of
from tests.npu_runtime import linked
from tests.npu_runtime.programs import two_in_two_out

PIPELINE = "MTLComputeCommandEncoder setComputePipelineState:"
ARGUMENTS = "MTLComputeCommandEncoder setBuffers:offsets:withRange:"


def test_a_run_is_one_command_buffer_and_one_wait(standin: Standin, metal: Device) -> None:
    assert is_right(run_chain(metal))
    dispatches = len(chain()[0].kernel_calls)
    sent = {m: standin.messages(m) for m in (QUEUE, COMMIT, WAIT, ARGUMENTS, DISPATCH)}
    assert sent == {QUEUE: 1, COMMIT: 1, WAIT: 1, ARGUMENTS: dispatches, DISPATCH: dispatches}
    assert 0 < standin.messages(BARRIER) < dispatches
    assert 0 < standin.messages(PIPELINE) <= dispatches


def test_independent_dispatches_share_no_barrier(standin: Standin, metal: Device) -> None:
    case = two_in_two_out()
    executor = Executor(case.program, metal)
    names = [spec.name for spec in case.program.input_specs]
    results = executor.run(dict(zip(names, case.inputs, strict=True)), {})
    for result, expected in zip(results.values(), case.expected, strict=True):
        assert np.array_equal(result.to_numpy(), expected)
    assert standin.messages(BARRIER) == 0


def test_a_donated_input_is_read_before_it_is_written(metal: Device) -> None:
    def step(cache: torch.Tensor, row: torch.Tensor, new: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return cache.sum(1), cache.index_copy(0, row, new)

    module = Function(step)
    inputs = (images(8, 64), torch.tensor([3]), images(1, 64, seed=1))
    donated = ir_of(module, inputs)["graph_inputs"][0]["name"]
    run(metal, module, *inputs, dtype="float32", donate_inputs=[donated])


def test_nothing_is_left_behind(standin: Standin) -> None:
    def once() -> None:
        device = standin.device()
        for _ in range(3):
            assert is_right(run_chain(device))

    start = standin.live_objects()
    once()
    gc.collect()
    before = standin.live_objects()
    for name in ("MTLDevice", "MTLBuffer", "MTLCommandBuffer", "MTLComputePipelineState"):
        assert before.get(name, 0) == start.get(name, 0), name
    once()
    gc.collect()
    assert standin.live_objects() == before


def test_weights_may_change_between_runs(metal: Device) -> None:
    program, state, x, expected = chain()
    executor = Executor(program, metal)
    others = {name: np.zeros_like(array) for name, array in state.items()}
    for weights, right in ((state, True), (others, False), (state, True)):
        loaded = load_weights(weights, program, metal, strict=False)
        (result,) = executor.run({program.input_specs[0].name: x}, loaded).values()
        assert np.allclose(result.to_numpy(), expected, rtol=1e-4, atol=1e-6) is right


def test_runs_in_threads(metal: Device) -> None:
    program, state, x, expected = chain()
    executor = Executor(program, metal)
    weights = load_weights(state, program, metal, strict=False)
    results: list[np.ndarray] = []

    def work() -> None:
        for _ in range(4):
            (result,) = executor.run({program.input_specs[0].name: x}, weights).values()
            results.append(result.to_numpy().copy())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 12
    for result in results:
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)


def test_timestamps_of_each_dispatch(standin: Standin, metal: Device) -> None:
    program, state, x, _ = chain()
    executor = Executor(program, metal)
    weights = load_weights(state, program, metal, strict=False)
    results, times = executor.run_profiled({program.input_specs[0].name: x}, weights)
    (result,) = results.values()
    assert is_right(result.to_numpy())
    assert [t[0] for t in times] == list(range(len(program.kernel_calls)))
    assert all(begin < end for _, begin, end in times)
    assert all(a[2] <= b[1] for a, b in pairwise(times)), "the queue runs them in order"
    assert standin.messages(COMMIT) == len(times)
    assert standin.messages(WAIT) == 1


def test_entry_points_donated_caches_and_prepared_runs(metal: Device) -> None:
    program = linked.linked()
    weights = load_weights(linked.state_dict(), program, metal)
    prefill = Executor(program, metal)
    decode = Executor(program, metal, entry="decode")
    ids, slots, cache = linked.inputs(8)
    first = prefill.run({"tokens": ids, "slots": slots, "cache": cache.numpy()}, weights)
    logits, after = first.values()
    ids, slots, _ = linked.inputs(1, 8)
    call = decode.prepare({"tokens": ids.numpy(), "slots": slots.numpy(), "cache": after}, weights)
    for step in range(8, 11):
        ids, slots, _ = linked.inputs(1, step)
        call.inputs["tokens"].write(ids.numpy())
        call.inputs["slots"].write(slots.numpy())
        call.run()
    logits, _ = call.outputs.values()
    with torch.no_grad():
        expected = linked.model()(*linked.inputs(11))[0].numpy()
    np.testing.assert_allclose(logits.to_numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("skip", [0, 8, 4096])
def test_pages_of_the_host_are_used_in_place(metal: Device, skip: int) -> None:
    memory = np.arange(40_000, dtype=np.float32).view(np.uint8)[skip:]
    buffer = metal.native.wrap(memory)
    view = buffer.host_view()
    assert view is not None
    assert view.__array_interface__["data"][0] == memory.__array_interface__["data"][0]
    buffer.upload(16, b"\x01\x02")
    assert list(memory[16:18]) == [1, 2]


def test_small_and_odd_memory_is_copied(metal: Device) -> None:
    memory = np.arange(100_000, dtype=np.uint8)
    for part in (memory[:64], memory[3:]):
        buffer = metal.native.wrap(part)
        read = np.zeros(part.size, np.uint8)
        buffer.download(0, read)
        assert np.array_equal(read, part)
        buffer.upload(0, b"\xff")
        assert part[0] != 0xFF


def test_read_only_memory_is_no_output(metal: Device) -> None:
    buffer = metal.native.wrap(bytes(100_000))
    with pytest.raises(ArgumentError, match="only be read"):
        buffer.upload(0, b"\x00")
