"""What goes wrong with a GPU is a typed error that names it and says what to do."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

import npu_compiler
from npu_runtime import Executor, MetalBackend, _native, load_weights
from npu_runtime import device as device_module
from npu_runtime.device import Device, available_devices
from npu_runtime.errors import (
    ArgumentError,
    DeviceError,
    DeviceUnavailableError,
    OutOfMemoryError,
    ProgramError,
)
from tests.metal_standin.models import chain, is_right, run_chain
from tests.metal_standin.standin import VARIABLE, Standin
from tests.npu_compiler.harness import Function, images, ir_of

# Codes of MTLCommandBufferError.
TIMEOUT, PAGE_FAULT, OUT_OF_MEMORY, REMOVED = 2, 3, 8, 11


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gpu": 0}, "sees no GPU"),
        ({"gpu_family": 1006}, "Apple M1 or later GPU is needed, this is stand-in"),
        ({"macos": 12}, r"macOS 13 or later is needed, this is Version 12\.0"),
    ],
)
def test_a_machine_that_lacks_something(
    standin: Standin, settings: dict[str, int], message: str
) -> None:
    standin.set(**settings)
    with pytest.raises(DeviceUnavailableError, match=message + r".*use Device\('cpu'\)"):
        standin.device()


def test_without_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "darwin":
        pytest.skip("this machine has Metal")
    monkeypatch.delenv(VARIABLE, raising=False)
    assert "metal" not in available_devices()
    with pytest.raises(DeviceUnavailableError, match=r"has cpu.*Apple Silicon Mac is needed"):
        Device("metal")


def test_a_stand_in_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/nowhere/standin.so")
    with pytest.raises(DeviceUnavailableError, match=r"/nowhere/standin\.so"):
        _native.Device("metal")


def test_the_environment_makes_the_backend(
    monkeypatch: pytest.MonkeyPatch, standin: Standin
) -> None:
    monkeypatch.setenv(VARIABLE, str(standin.path))
    monkeypatch.setattr(device_module, "_opened", {})
    assert available_devices()[0] == "metal"
    backend = MetalBackend()
    assert backend.name == "metal"
    assert Device().kind == "metal"
    assert is_right(run_chain(backend.device))


def test_a_buffer_that_is_too_large(standin: Standin, metal: Device) -> None:
    standin.set(max_buffer=1 << 20)
    with pytest.raises(OutOfMemoryError, match=r"a buffer of 2097152 bytes.*at most 1048576"):
        metal.native.allocate(1 << 21)


def test_bytes_that_leave_a_buffer(metal: Device) -> None:
    buffer = metal.native.allocate(16)
    for move in (buffer.upload, buffer.download):
        with pytest.raises(ArgumentError, match="offset 10 and 8 bytes leave the buffer of 16"):
            move(10, bytearray(8))


def test_a_grid_of_too_many_threads(metal: Device) -> None:
    wide = torch.zeros(1, 1).expand(2**31 - 1, 8)
    ir = ir_of(Function(lambda x, y: x @ y.T), (images(1, 8), wide))
    with pytest.raises(ProgramError, match=r"kernel gemm: axis 0 .* more than 2\*\*32 - 1 threads"):
        Executor(npu_compiler.compile(ir, compute_dtype="float32"), metal)


def test_memory_that_is_used_up(standin: Standin, metal: Device) -> None:
    standin.set(memory=1 << 20)
    with pytest.raises(OutOfMemoryError, match=r"cannot give 2097152 bytes.*smaller batch"):
        metal.native.allocate(1 << 21)


def test_intermediates_without_room(standin: Standin, metal: Device) -> None:
    program, state, x, _ = chain()
    executor = Executor(program, metal)
    weights = load_weights(state, program, metal, strict=False)
    inputs = {program.input_specs[0].name: x}
    executor.prepare(inputs, weights)  # so that only intermediates are left to make
    result = executor.prepare(inputs, weights)
    standin.set(memory=1)
    with pytest.raises(OutOfMemoryError, match="for intermediates"):
        result.run()
    standin.reset()
    result.run()
    (output,) = result.outputs.values()
    assert is_right(output.to_numpy())


def test_a_shader_that_does_not_compile(standin: Standin, metal: Device) -> None:
    standin.set(broken_shader="softmax.metal")
    with pytest.raises(
        DeviceError,
        match=r"shader softmax.metal of kernel softmax_f32 does not comp"
        r".*1:1: error.*; use Device\('cpu'\)",
    ):
        run_chain(metal)


def test_a_gpu_with_small_threadgroups(standin: Standin, metal: Device) -> None:
    standin.set(max_threads=16)
    with pytest.raises(DeviceError, match=r"kernel \w+ wants threadgroups of \d+ threads.*most 16"):
        run_chain(metal)


@pytest.mark.parametrize("profile", [False, True])
def test_a_kernel_that_fails_is_named(standin: Standin, metal: Device, profile: bool) -> None:
    program, state, x, _ = chain()
    executor = Executor(program, metal)
    weights = load_weights(state, program, metal, strict=False)
    inputs = {program.input_specs[0].name: x}
    run = executor.run_profiled if profile else executor.run
    standin.set(failing_kernel="softmax_f32", failure=PAGE_FAULT)
    number = [call.kernel_name for call in program.kernel_calls].index("softmax")
    with pytest.raises(
        DeviceError,
        match=rf"dispatch {number} \(.*\), kernel softmax failed.*GPU.*report the kernel",
    ):
        run(inputs, weights)
    # What comes after it works again.
    standin.reset()
    (result,) = executor.run(inputs, weights).values()
    assert is_right(np.array(result.to_numpy()))


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        (TIMEOUT, DeviceError, "use a smaller batch"),
        (OUT_OF_MEMORY, OutOfMemoryError, "smaller batch or model"),
        (REMOVED, DeviceUnavailableError, "lost to this process"),
    ],
)
def test_codes_of_failures(
    standin: Standin, metal: Device, code: int, error: type[Exception], message: str
) -> None:
    standin.set(failing_kernel="softmax_f32", failure=code)
    with pytest.raises(error, match=message):
        run_chain(metal)
