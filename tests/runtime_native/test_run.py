"""Loading, binding and running on every device: arguments, results, threads, memory."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from npu_runtime import _native
from npu_runtime.errors import ArgumentError, DeviceUnavailableError
from tests.runtime_native.toy_program import BIAS, IN, OUT, toy_program

PROGRAM = _native.Program.from_bytes(toy_program().build())
RNG = np.random.default_rng(7)
WEIGHT = RNG.normal(size=(OUT, IN)).astype(np.float32)


def softmax(x: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def expected(x: np.ndarray, weight: np.ndarray = WEIGHT) -> np.ndarray:
    """What entry point main computes."""
    return softmax(np.maximum(x @ weight.T + np.float32(BIAS), 0) * 2)


def values(buffer: _native.Buffer, count: int = OUT) -> np.ndarray:
    """A copy of the first float32 values of a buffer."""
    out = np.empty(count, np.float32)
    buffer.download(0, out)
    return out


@pytest.fixture(params=_native.available_devices())
def device(request: pytest.FixtureRequest) -> _native.Device:
    """Each device of this machine."""
    return _native.Device(request.param)


def filled(device: _native.Device, data: np.ndarray) -> _native.Buffer:
    """A new buffer with an array's bytes."""
    buffer = device.allocate(-(-data.nbytes // 64) * 64)
    buffer.upload(0, np.ascontiguousarray(data))
    return buffer


def test_results_of_both_entry_points(device: _native.Device) -> None:
    executable = device.load(PROGRAM)
    binding = executable.bind([device.wrap(WEIGHT)])
    x = RNG.normal(size=IN).astype(np.float32)
    y = device.allocate(64)
    assert executable.run(binding, 0, [filled(device, x)], [y]) is None
    np.testing.assert_allclose(values(y), expected(x), rtol=1e-5, atol=1e-6)
    state = filled(device, x[:OUT])
    executable.run(binding, 1, [state], [state])
    np.testing.assert_allclose(values(state), softmax(x[:OUT]), rtol=1e-5, atol=1e-6)


def test_an_output_stays_as_it_is_after_the_next_run(device: _native.Device) -> None:
    executable = device.load(PROGRAM)
    binding = executable.bind([device.wrap(WEIGHT)])
    first, second = device.allocate(64), device.allocate(64)
    executable.run(binding, 0, [filled(device, np.ones(IN, np.float32))], [first])
    before = values(first)
    executable.run(binding, 0, [filled(device, -np.ones(IN, np.float32))], [second])
    np.testing.assert_array_equal(values(first), before)
    assert not np.array_equal(values(second), before)


def test_bindings_of_one_executable_keep_apart(device: _native.Device) -> None:
    executable = device.load(PROGRAM)
    x = RNG.normal(size=IN).astype(np.float32)
    inputs, y = [filled(device, x)], device.allocate(64)
    bindings = [(w, executable.bind([filled(device, w)])) for w in (WEIGHT, -WEIGHT)]
    for weight, binding in bindings * 2:
        executable.run(binding, 0, inputs, [y])
        np.testing.assert_allclose(values(y), expected(x, weight), rtol=1e-5, atol=1e-6)


def test_two_threads_share_an_executable(device: _native.Device) -> None:
    executable = device.load(PROGRAM)
    binding = executable.bind([device.wrap(WEIGHT)])
    data = RNG.normal(size=(2, IN)).astype(np.float32)
    failures: list[str] = []
    start = threading.Barrier(2)

    def work(x: np.ndarray) -> None:
        inputs, y = [filled(device, x)], device.allocate(64)
        start.wait()
        for _ in range(50):
            executable.run(binding, 0, inputs, [y])
            if not np.allclose(values(y), expected(x), rtol=1e-5, atol=1e-6):
                failures.append(f"{values(y)} for {x}")

    threads = [threading.Thread(target=work, args=(x,)) for x in data]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_profile_gives_one_time_per_dispatch(device: _native.Device) -> None:
    executable = device.load(PROGRAM)
    binding = executable.bind([device.wrap(WEIGHT)])
    times = executable.run(binding, 0, [device.allocate(64)], [device.allocate(64)], profile=True)
    assert times is not None
    assert [t[0] for t in times] == [0, 1, 2]
    flat = [t for _, begin, end in times for t in (begin, end)]
    assert flat == sorted(flat)
    state = device.allocate(64)
    assert [t[0] for t in executable.run(binding, 1, [state], [state], True) or []] == [3]


def test_wrong_arguments_are_refused_and_nothing_is_written(device: _native.Device) -> None:
    executable = device.load(PROGRAM)
    weights = [device.wrap(WEIGHT)]
    binding = executable.bind(weights)
    x, y, small = device.allocate(64), device.allocate(64), device.allocate(8)
    y.upload(0, b"\x55" * 64)
    read_only = device.wrap(bytes(64))
    overlapping = device.wrap(memoryview(x)[8:])
    other = device.load(PROGRAM).bind(weights)
    shared = np.zeros(16, np.float32)
    part, whole = device.wrap(shared[:OUT]), device.wrap(shared)
    cases = [
        (binding, 2, [x], [y], "entry point 2 does not exist, the program has 2"),
        (binding, 0, [], [y], "'main' has 1 inputs, 0 are given"),
        (binding, 0, [x], [y, y], "'main' has 1 outputs, 2 are given"),
        (binding, 0, [small], [y], "input 'x': the buffer has 8 bytes, the program uses 16"),
        (binding, 0, [x], [small], "output 'y': the buffer has 8 bytes, the program uses 12"),
        (binding, 0, [x], [read_only], "output 'y': its buffer wraps memory that may only be read"),
        (binding, 0, [x], [x], "output 'y': its buffer shares memory with input 'x'"),
        # Where memory can be wrapped in place.
        *[
            (binding, 0, [x], [overlapping], "shares memory with input 'x'")
            for _ in range(np.shares_memory(overlapping.host_view(), x.host_view()))
        ],
        (binding, 0, [x], [weights[0]], "output 'y': its buffer shares memory with a weight"),
        (binding, 1, [x], [y], "'state_out': its buffer must be that of input 'state'"),
        (binding, 1, [part], [whole], "'state_out': its buffer must be that of input 'state'"),
        (other, 0, [x], [y], "made by another executable"),
    ]
    for used, entry, inputs, outputs, message in cases:
        with pytest.raises(ArgumentError, match=message):
            executable.run(used, entry, inputs, outputs)
    assert bytes(y) == b"\x55" * 64
    with pytest.raises(ArgumentError, match="has 1 weights, 0 buffers are given"):
        executable.bind([])
    with pytest.raises(ArgumentError, match="weight 0 'w': the buffer has 8 bytes"):
        executable.bind([small])


def test_buffers_of_another_device_object_are_refused() -> None:
    one, two = (_native.Device("cpu") for _ in range(2))
    executable = one.load(PROGRAM)
    with pytest.raises(ArgumentError, match="weight 0 lies on a device"):
        executable.bind([two.wrap(WEIGHT)])
    assert one == one and one != two


def test_memory_outlives_what_made_it(device: _native.Device) -> None:
    buffer = device.allocate(256)
    assert bytes(buffer) == bytes(256)
    view = buffer.host_view()
    assert view is not None
    view[3] = 9
    assert bytes(memoryview(buffer)[:4]) == b"\0\0\0\x09"
    del buffer
    assert view[3] == 9
    array = np.arange(64, dtype=np.uint8)
    wrapped = device.wrap(array)
    array[0] = 77
    assert wrapped.host_view()[0] == 77
    del array
    assert bytes(wrapped)[1:3] == b"\1\2"


def test_buffer_ranges_are_checked(device: _native.Device) -> None:
    buffer = device.allocate(16)
    with pytest.raises(ArgumentError, match="offset 10 and 8 bytes leave the buffer of 16"):
        buffer.upload(10, bytes(8))
    with pytest.raises(ArgumentError, match="offset 17"):
        buffer.download(17, bytearray(0))
    with pytest.raises(ArgumentError, match="download: a C-contiguous writable object"):
        buffer.download(0, bytes(4))
    with pytest.raises(ArgumentError, match="upload: a C-contiguous object"):
        buffer.upload(0, np.zeros((2, 3), np.uint8).T)
    read_only = device.wrap(b"12345678")
    assert not read_only.writable
    with pytest.raises(ArgumentError, match="only be read"):
        read_only.upload(0, b"1")
    with pytest.raises(ValueError, match="read-only"):
        read_only.host_view()[0] = 1


def test_memory_that_does_not_exist_is_an_out_of_memory_error(device: _native.Device) -> None:
    with pytest.raises(MemoryError, match=r"the host cannot give|holds at most"):
        device.allocate(1 << 60)


def test_an_unknown_device_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(DeviceUnavailableError, match=r"no device 'tpu'.*cpu"):
        _native.Device("tpu")
