"""Guards of cpp/metal that only some programs, threads and systems need: each test fails without
one (mutations.py).
"""

from __future__ import annotations

import gc
import mmap
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch

from npu_runtime import Executor, _native, load_weights
from npu_runtime.device import Device
from npu_runtime.errors import (
    ArgumentError,
    DeviceError,
    DeviceUnavailableError,
    OutOfMemoryError,
    ProgramError,
)
from tests.metal_standin import programs
from tests.metal_standin.messages import BARRIER, COMMIT, DISPATCH, QUEUE
from tests.metal_standin.models import chain, is_right, run_chain
from tests.metal_standin.standin import Standin
from tests.metal_standin.test_mps import inputs as products
from tests.metal_standin.test_ops import run
from tests.npu_compiler.harness import Function, images
from tests.runtime_native.toy_program import toy_program

REMOVED = 11  # MTLCommandBufferErrorDeviceRemoved
SEEDS = range(3)


def _together(*works: Callable[[], object]) -> None:
    """Each in a thread of its own."""
    failures: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as problem:
            failures.append(problem)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def _buffer(device: Device, *values: float) -> _native.Buffer:
    """float32 memory of its own: so many values, over and over."""
    buffer = device.native.allocate(4 * programs.N)
    buffer.upload(0, np.resize(np.array(values, np.float32), programs.N))
    return buffer


def _values(buffer: _native.Buffer) -> np.ndarray:
    out = np.empty(programs.N, np.float32)
    buffer.download(0, out)
    return out


def test_an_output_is_the_memory_of_its_donor(metal: Device) -> None:
    executable = metal.native.load(_native.Program.from_bytes(programs.donated()))
    binding = executable.bind([])
    x, state, y = _buffer(metal, 1, 2), _buffer(metal, 5, 6), _buffer(metal, 0)
    executable.run(binding, 0, [x, state], [y, state])
    assert np.array_equal(_values(y)[:2], [5, 6])
    assert np.array_equal(_values(state)[:2], [2, 4])


def test_a_part_is_read_after_the_whole_is_written(metal: Device) -> None:
    executable = metal.native.load(_native.Program.from_bytes(programs.parts()))
    y, z = _buffer(metal, 0), _buffer(metal, 0)
    executable.run(executable.bind([]), 0, [_buffer(metal, *range(programs.N))], [y, z])
    assert np.array_equal(_values(z)[:4], [8, 10, 12, 14])


def test_runs_in_flight_have_intermediates_of_their_own(standin: Standin, metal: Device) -> None:
    program, state, x, _ = chain()
    executor = Executor(program, metal)
    weights = load_weights(state, program, metal, strict=False)
    name = program.input_specs[0].name
    calls = [executor.prepare({name: data}, weights) for data in (x, -x)]

    def results() -> list[np.ndarray]:
        return [next(iter(call.outputs.values())).to_numpy().copy() for call in calls]

    for call in calls:  # one after the other: with the same intermediates
        call.run()
    expected = results()
    assert not np.array_equal(*expected)
    for seed in SEEDS:
        standin.set(together=2, seed=seed)
        _together(*(call.run for call in calls))
        assert all(map(np.array_equal, results(), expected)), f"seed {seed}"


def test_runs_of_one_call_wait_for_each_other(standin: Standin, metal: Device) -> None:
    executable = metal.native.load(_native.Program.from_bytes(programs.donated()))
    state = _buffer(metal, 1)
    call = executable.prepare(executable.bind([]), 1, [state], [state])
    for seed in SEEDS:
        state.upload(0, np.ones(programs.N, np.float32))
        standin.set(together=2, seed=seed)
        _together(call.run, call.run)
        assert np.array_equal(_values(state), np.full(programs.N, 7)), f"seed {seed}"


def test_accesses_that_are_compared_are_bounded(standin: Standin, metal: Device) -> None:
    count = 600  # of two accesses each
    executable = metal.native.load(_native.Program.from_bytes(programs.constants([2.0] * count)))
    y = metal.native.allocate(count * 4 * programs.N)
    executable.run(executable.bind([]), 0, [_buffer(metal, 3)], [y])
    assert np.array_equal(np.frombuffer(bytes(y), np.float32), np.full(count * programs.N, 6))
    assert standin.messages(BARRIER) == 1


def test_scratch_arrays_are_one_memory(standin: Standin, metal: Device) -> None:
    """Attention of one query over more keys than one launch takes: a second one joins its parts."""
    inputs = [torch.randn(1, 2, rows, 16) for rows in (1, 1500, 1500, 1)]
    attention = torch.nn.functional.scaled_dot_product_attention
    both = Function(lambda q, k, v, p: (attention(q, k, v), attention(p, k, v)))
    before = standin.messages(DISPATCH)
    found = run(metal, both, *inputs, dtype="float32")
    assert found.kernels.count("attention") == 2
    assert standin.messages(DISPATCH) - before >= 4


def test_what_was_committed_is_waited_for_whatever_happens(standin: Standin, metal: Device) -> None:
    executable = metal.native.load(_native.Program.from_bytes(programs.constants([2.0] * 6)))
    binding = executable.bind([])
    standin.leave_out(QUEUE, 4)
    standin.set(delay_us=50_000)
    with pytest.raises(DeviceError, match="gives no command buffer"):
        # Nobody else holds the buffers: nothing may use them afterwards.
        executable.run(
            binding, 0, [_buffer(metal, 1)], [metal.native.allocate(6 * 4 * programs.N)], True
        )


def test_float64_is_refused(metal: Device) -> None:
    with pytest.raises(ProgramError, match=r"operand in0 is float64.*convert it to float32"):
        metal.native.load(_native.Program.from_bytes(programs.float64()))


def test_a_lost_gpu_runs_nothing_again(standin: Standin, metal: Device) -> None:
    standin.set(failing_kernel="softmax_f32", failure=REMOVED)
    with pytest.raises(DeviceUnavailableError, match=r"entry point 'main'.*start the process anew"):
        run_chain(metal)
    assert standin.messages(COMMIT) == 1


@pytest.mark.parametrize(
    ("message", "match"),
    [
        ("MTLDevice newCommandQueue", r"gives no command queue.*use Device\('cpu'\)"),
        (QUEUE, "gives no command buffer.*start the process anew"),
        ("MTLCommandBuffer computeCommandEncoderWithDispatchType:", "no encoder.*start the proc"),
        (
            "MTLLibrary newFunctionWithName:constantValues:error:",
            "cannot be had from shader .*: the system gives no reason; rebuild npu_sim",
        ),
        (
            "MTLDevice newComputePipelineStateWithDescriptor:options:reflection:error:",
            "cannot be built: the system gives no reason",
        ),
    ],
)
def test_objects_that_metal_does_not_give(standin: Standin, message: str, match: str) -> None:
    standin.leave_out(message)
    with pytest.raises((DeviceError, DeviceUnavailableError), match=match):
        run_chain(standin.device())


def test_a_gpu_with_other_simd_groups(standin: Standin, metal: Device) -> None:
    standin.set(simd_width=64)
    with pytest.raises(DeviceError, match=r"SIMD groups of 32 threads, this GPU's have 64; use"):
        run_chain(metal)


def test_intermediates_are_the_gpus_own(standin: Standin, metal: Device) -> None:
    program, state, x, _ = chain()
    executor = Executor(program, metal)
    weights = load_weights(state, program, metal, strict=False)
    call = executor.prepare({program.input_specs[0].name: x}, weights)
    standin.set(max_shared=0)
    call.run()
    assert is_right(next(iter(call.outputs.values())).to_numpy())


def test_wrapped_memory_outlives_the_buffer_over_it(metal: Device) -> None:
    # Pages that are gone as soon as nobody holds them.
    memory = mmap.mmap(-1, 1 << 16)
    buffer = metal.native.wrap(memory)
    del memory
    gc.collect()
    buffer.upload(0, b"\x01")
    assert bytes(buffer)[:2] == b"\x01\x00"
    del buffer


def test_memory_that_metal_does_not_take_in_place_is_copied(
    standin: Standin, metal: Device
) -> None:
    memory = np.arange(1 << 16, dtype=np.uint8)
    standin.leave_out("MTLDevice newBufferWithBytesNoCopy:length:options:deallocator:")
    buffer = metal.native.wrap(memory)
    buffer.upload(0, b"\xff")
    assert memory[0] == 0
    assert bytes(buffer)[1:4] == b"\x01\x02\x03"


def test_memory_in_place_that_is_too_large(standin: Standin, metal: Device) -> None:
    standin.set(max_buffer=1 << 15)
    with pytest.raises(OutOfMemoryError, match="a copy of 65536 bytes: a buffer of this GPU holds"):
        metal.native.wrap(np.zeros(1 << 16, np.uint8))


def test_weights_of_another_device(standin: Standin) -> None:
    assert "lies on another device than the program" in standin.bind_host_memory(
        toy_program().build()
    )


def test_programs_that_two_threads_load_are_compiled_once(standin: Standin, metal: Device) -> None:
    program = _native.Program.from_bytes(chain()[0].to_bytes())
    standin.device().native.load(program)
    once = standin.compilations()
    standin.set(compile_us=20_000)
    _together(*(lambda: metal.native.load(program) for _ in range(2)))
    assert standin.compilations() == 2 * once


def test_very_many_elementwise_programs_are_not_all_compiled(
    standin: Standin, metal: Device
) -> None:
    values = [0.5 + k for k in range(260)]
    program = _native.Program.from_bytes(programs.constants(values))
    executable = metal.native.load(program)
    assert standin.compilations() == 256 + 1
    y = metal.native.allocate(len(values) * 4 * programs.N)
    executable.run(executable.bind([]), 0, [_buffer(metal, 2)], [y])
    rows = np.frombuffer(bytes(y), np.float32).reshape(len(values), programs.N)
    assert np.array_equal(rows[:, 0], 2 * np.float32(values))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_products_leave_nothing_behind(standin: Standin, dtype: str) -> None:
    standin.set(macos=15)

    def once() -> dict[str, int]:
        device = standin.device()
        run(device, Function(lambda x, y: x @ y.T), *products(), dtype=dtype)
        del device
        gc.collect()
        return standin.live_objects()

    assert once() == once()


def test_products_of_arrays_are_encoded_one_by_one(standin: Standin, metal: Device) -> None:
    standin.set(macos=15)
    result = run(metal, Function(lambda x, y: x @ y.T), *products(), dtype="bfloat16")
    program = result.program
    executor = Executor(program, metal)
    weights = load_weights({}, program, metal)
    names = [spec.name for spec in program.input_specs]
    arrays = [x.to(torch.float32).numpy() for x in products()]
    calls = [executor.prepare(dict(zip(names, arrays, strict=True)), weights) for _ in range(2)]
    standin.set(macos=15, encode_us=100_000)
    _together(*(call.run for call in calls))


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ("float16", "MPSMatrix initWithBuffer:offset:descriptor:"),
        ("bfloat16", "MPSNDArray initWithBuffer:offset:descriptor:"),
    ],
)
def test_a_matrix_that_mps_refuses(
    standin: Standin, metal: Device, dtype: str, message: str
) -> None:
    standin.set(macos=15)
    standin.leave_out(message)
    with pytest.raises(DeviceError, match=r"MPS refuses a matrix.*NPU_SIM_METAL_MPS=0"):
        run(metal, Function(lambda x, y: x @ y.T), *products(), dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ("float16", "MPSMatrixMultiplication alloc"),
        ("float16", "MPSMatrixDescriptor matrixDescriptorWithRows:columns:rowBytes:dataType:"),
        ("bfloat16", "MPSNDArrayMatrixMultiplication alloc"),
        (
            "bfloat16",
            "MPSNDArrayDescriptor descriptorWithDataType:dimensionCount:dimensionSizes:",
        ),
    ],
)
def test_without_mps_products_are_the_kernels(
    standin: Standin, metal: Device, dtype: str, message: str
) -> None:
    standin.set(macos=15)
    standin.leave_out(message)
    run(metal, Function(lambda x, y: x @ y.T), *products(), dtype=dtype)


ROW = torch.linspace(-1, 1, 256)
EXTRAS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "bias": lambda x, y: torch.nn.functional.linear(x, y, ROW),
    "residual": lambda x, y: x @ y.T + x,
    "activation": lambda x, y: torch.sigmoid(x @ y.T),
    "lower clamp": lambda x, y: torch.relu(x @ y.T),
    "upper clamp": lambda x, y: (x @ y.T).clamp(max=0.5),
    "batches": lambda x, y: torch.stack([x, x]) @ torch.stack([y, y]).transpose(1, 2),
    "rows that overlap": lambda x, y: x[:1].expand(260, 256) @ y.T,
}


@pytest.mark.parametrize("extra", EXTRAS)
def test_other_products_are_the_kernels(standin: Standin, metal: Device, extra: str) -> None:
    result = run(metal, Function(EXTRAS[extra]), *products(), dtype="float16")
    assert "gemm" in result.kernels
    encode = "MPSMatrixMultiplication encodeToCommandBuffer:leftMatrix:rightMatrix:resultMatrix:"
    assert standin.messages(encode) == 0


def test_rows_with_a_gap_are_no_arrays(standin: Standin, metal: Device) -> None:
    standin.set(macos=15)
    wide = images(260, 512)
    run(metal, Function(lambda x, y: x[:, :256] @ y.T), wide, products()[1], dtype="bfloat16")


def test_a_binding_of_another_executable(metal: Device) -> None:
    program = _native.Program.from_bytes(programs.donated())
    one, other = (metal.native.load(program) for _ in range(2))
    state = _buffer(metal, 1)
    with pytest.raises(ArgumentError, match="made by another executable"):
        one.run(other.bind([]), 1, [state], [state])


def test_the_gpu_has_a_name(metal: Device) -> None:
    assert metal.native.name == "stand-in for an Apple GPU, Metal"


def test_a_prepared_runs_buffers_are_checked(metal: Device) -> None:
    executable = metal.native.load(_native.Program.from_bytes(programs.donated()))
    state, small = _buffer(metal, 1), metal.native.allocate(8)
    binding = executable.bind([])
    with pytest.raises(ArgumentError, match="the buffer has 8 bytes, the program uses 64"):
        executable.prepare(binding, 1, [small], [small])
    with pytest.raises(ArgumentError, match="must be that of input 'before'"):
        executable.prepare(binding, 1, [state], [_buffer(metal, 1)])


def test_a_view_of_nothing_where_its_buffer_ends(metal: Device) -> None:
    executable = metal.native.load(_native.Program.from_bytes(programs.nothing()))
    y = _buffer(metal, 5)
    executable.run(executable.bind([]), 0, [_buffer(metal, 1)], [y])
    assert np.array_equal(_values(y), np.zeros(programs.N))
