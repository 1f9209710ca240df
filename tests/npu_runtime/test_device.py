"""Device: which one is taken, and what happens when there is none."""

from __future__ import annotations

import pytest

from npu_runtime import Device, NPUBuffer, NpuError, available_devices
from npu_runtime.errors import DeviceUnavailableError, OutOfMemoryError


def test_cpu_and_reference_are_always_there() -> None:
    kinds = available_devices()
    assert {"cpu", "reference"} <= set(kinds)
    assert kinds[-1] == "reference"


def test_the_default_is_the_preferred_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NPU_SIM_DEVICE", raising=False)
    assert Device().kind == available_devices()[0] != "reference"


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPU_SIM_DEVICE", "reference")
    assert Device().kind == "reference"
    assert Device("cpu").kind == "cpu"
    monkeypatch.setenv("NPU_SIM_DEVICE", "abacus")
    with pytest.raises(DeviceUnavailableError, match=r"'abacus'.*NPU_SIM_DEVICE.*cpu, reference"):
        Device()


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(DeviceUnavailableError, match=r"'tpu': this machine has .*cpu"):
        Device("tpu")
    assert issubclass(DeviceUnavailableError, NpuError)


def test_devices_of_a_kind_are_one() -> None:
    assert Device("cpu") == Device("cpu") != Device("reference")
    assert Device("cpu").native is Device("cpu").native
    assert len({Device("cpu"), Device("cpu"), Device("reference")}) == 2
    assert Device("cpu").name
    assert "cpu" in repr(Device("cpu"))


def test_too_much_memory_is_a_memory_error() -> None:
    with pytest.raises(OutOfMemoryError) as raised:
        NPUBuffer.zeros((2**46,), Device("cpu"), "float32")
    assert isinstance(raised.value, MemoryError)
