"""What the reference device finds: stray accesses, divergence, missing barriers, unset memory."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import numpy as np
import pytest

from npu_compiler.kernels import KERNELS
from tests.reference.native_library import NativeError, call, pointer, run_kernel
from tests.reference.test_reference_conv import NO_CLAMP

THREADS = 64


def run_faulty(name: str, groups: int = 3, reverse: bool = False) -> Any:
    y = np.zeros(groups * THREADS, np.float32)
    call("npu_test_faulty", name.encode(), pointer(y), groups, int(reverse))
    return y.reshape(groups, THREADS)


@pytest.mark.parametrize("reverse", [False, True])
def test_sound_kernel(reverse: bool) -> None:
    want = np.broadcast_to(np.arange(THREADS)[::-1], (3, THREADS))
    np.testing.assert_array_equal(run_faulty("mirror", reverse=reverse), want)


def test_missing_barrier_shows_in_the_order() -> None:
    """Threads read what neighbours have not written yet: poison, where depends on the order."""
    forward, reverse = (run_faulty("missing_barrier", reverse=r) for r in (False, True))
    assert np.isnan(forward[:, : THREADS // 2]).all()
    assert np.isnan(reverse[:, THREADS // 2 :]).all()
    assert not np.array_equal(forward, reverse, equal_nan=True)


def test_threadgroup_memory_is_poisoned() -> None:
    assert np.isnan(run_faulty("reads_poison")).all()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("divergent_barriers", "wait at different barriers"),
        ("early_exit", "63 wait at a barrier.*1 have finished"),
        ("barrier_beside_shuffle", "2 wait at a barrier, 62 in a SIMD-group operation"),
        ("divergent_shuffles", "lanes of a SIMD group are in different operations"),
        ("store_out_of_bounds", r"touches element 1\d\d\d of y, whose elements are \[0, 192\)"),
        ("store_out_of_bounds", "kernel store_out_of_bounds"),
        ("tile_out_of_bounds", r"touches element 64 of tile, whose elements are \[0, 64\)"),
        ("barrier_without_arrays", "without threadgroup arrays in its record uses a barrier"),
    ],
)
def test_fault_is_an_error(name: str, message: str, reverse: bool) -> None:
    with pytest.raises(NativeError, match=message):
        run_faulty(name, reverse=reverse)
    # The device goes on working.
    assert run_faulty("mirror")[0, 0] == THREADS - 1


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_operand_smaller_than_the_output_is_out_of_bounds(threads: int) -> None:
    """The record's rules forbid it; the device's own check stops it where they are not asked."""
    x, w = np.ones((1, 40, 8), np.float32), np.ones((1, 40, 8), np.float32)
    arrays = {"x": x, "w": w, "residual": np.ones((1, 39, 40), np.float32)}
    y = np.zeros((1, 40, 40), np.float32)
    with pytest.raises(NativeError, match=r"dispatch 0 \(test\), kernel gemm.* of residual"):
        run_kernel(KERNELS["gemm"], {**arrays, "y": y}, NO_CLAMP, threads=threads)


def test_misaligned_operand_is_an_error() -> None:
    block = np.zeros(64, np.uint8)
    x = block[1:33].view(np.float32).reshape(1, 1, 1, 8)
    with pytest.raises(NativeError, match="operand x is not aligned to its 4-byte elements"):
        run_kernel(KERNELS["softmax"], {"x": x, "y": np.zeros_like(x)}, {"log": 0})


def device(order: str | None) -> tuple[str, Any]:
    """The device's name and an arena that it prepared, with the environment's order."""
    name = ctypes.create_string_buffer(200)
    arena = np.zeros(64, np.uint8)
    saved = os.environ.pop("NPU_SIM_REFERENCE_ORDER", None)
    try:
        if order is not None:
            os.environ["NPU_SIM_REFERENCE_ORDER"] = order
        call("npu_test_device", name, len(name), pointer(arena), arena.size)
    finally:
        os.environ.pop("NPU_SIM_REFERENCE_ORDER", None)
        if saved is not None:
            os.environ["NPU_SIM_REFERENCE_ORDER"] = saved
    return name.value.decode(), arena


def test_order_comes_from_the_environment() -> None:
    assert "forward order" in device(None)[0]
    assert "forward order" in device("forward")[0]
    assert "reverse order" in device("reverse")[0]
    with pytest.raises(NativeError, match="NPU_SIM_REFERENCE_ORDER is 'sideways'"):
        device("sideways")


def test_arena_is_poisoned() -> None:
    assert np.isnan(device(None)[1].view(np.float16)).all()
