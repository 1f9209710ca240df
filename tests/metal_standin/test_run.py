"""The tests of tests/runtime_native/test_run.py, on the Metal device."""

from __future__ import annotations

import numpy as np
import pytest

from npu_runtime import _native
from npu_runtime.device import Device
from tests.runtime_native import test_run as shared

# Small memory is copied, not wrapped.
LEFT_OUT = ("test_memory_outlives_what_made_it",)
globals().update(
    {k: v for k, v in vars(shared).items() if k.startswith("test_") and k not in LEFT_OUT}
)


def test_a_call_keeps_its_buffers(metal: Device) -> None:
    x = np.arange(shared.IN, dtype=np.float32)
    device = metal.native
    executable = device.load(shared.PROGRAM)
    y = device.allocate(64)
    binding = executable.bind([device.wrap(shared.WEIGHT)])
    call = executable.prepare(binding, 0, [shared.filled(device, x)], [y])
    del binding
    memory = [device.allocate(64) for _ in range(8)]
    call.run()
    np.testing.assert_allclose(shared.values(y), shared.expected(x), rtol=1e-5, atol=1e-6)
    del y, memory
    call.run()


@pytest.fixture
def device(metal: Device) -> _native.Device:
    """In place of each device of this machine."""
    return metal.native
