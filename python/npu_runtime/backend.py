"""Backends: what a partitioned model needs of a device, whatever the device is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from npu_runtime.buffer import NPUBuffer
from npu_runtime.device import Device
from npu_runtime.executor import Executor
from npu_runtime.names import NamedOutputs

if TYPE_CHECKING:
    from npu_compiler.compiled_program import CompiledProgram, TensorSpec

# Memory of a device, with to_numpy() and from_numpy(): the same class on every device.
DeviceBuffer = NPUBuffer


class Backend(ABC):
    """Allocates device memory and runs programs."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What a person would call it."""

    @property
    @abstractmethod
    def device(self) -> Device:
        """The device that holds the memory and runs the programs."""

    @abstractmethod
    def allocate_buffer(
        self,
        array: Any,
        alloc_shape: Sequence[int] | None = None,
        spec: TensorSpec | None = None,
    ) -> DeviceBuffer:
        """Upload an array. See ``NPUBuffer.from_numpy``."""

    @abstractmethod
    def allocate_zeros(
        self,
        shape: Sequence[int],
        dtype: Any = "float16",
        alloc_shape: Sequence[int] | None = None,
    ) -> DeviceBuffer:
        """Zero-filled memory. See ``NPUBuffer.zeros``."""

    @abstractmethod
    def create_executor(self, program: CompiledProgram) -> Executor:
        """Make a program ready to run."""

    def execute(
        self,
        executor: Executor,
        inputs: Mapping[str, Any],
        weights: Mapping[str, DeviceBuffer],
    ) -> NamedOutputs[DeviceBuffer]:
        """Run what ``create_executor`` returned. See ``Executor.run``."""
        return executor.run(inputs, weights)

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until all that was started has been done."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"


class DeviceBackend(Backend):
    """A backend over one of this machine's devices (a Device, its kind, or None: the fastest).

    Raises DeviceUnavailableError, which lists the devices that there are.
    """

    def __init__(self, device: Device | str | None = None) -> None:
        self._device = device if isinstance(device, Device) else Device(device)

    @property
    def name(self) -> str:
        return self._device.kind

    @property
    def device(self) -> Device:
        return self._device

    def allocate_buffer(
        self,
        array: Any,
        alloc_shape: Sequence[int] | None = None,
        spec: TensorSpec | None = None,
    ) -> DeviceBuffer:
        return NPUBuffer.from_numpy(array, self._device, alloc_shape, spec)

    def allocate_zeros(
        self,
        shape: Sequence[int],
        dtype: Any = "float16",
        alloc_shape: Sequence[int] | None = None,
    ) -> DeviceBuffer:
        return NPUBuffer.zeros(shape, self._device, dtype, alloc_shape)

    def create_executor(self, program: CompiledProgram) -> Executor:
        return Executor(program, self._device)

    def synchronize(self) -> None:
        """Nothing is left to wait for: a run returns when it is done, an upload, too."""


class MetalBackend(DeviceBackend):
    """The GPU of an Apple Silicon Mac."""

    def __init__(self) -> None:
        super().__init__("metal")


class CudaBackend(DeviceBackend):
    """An NVIDIA GPU."""

    def __init__(self) -> None:
        super().__init__("cuda")


class CpuBackend(DeviceBackend):
    """The fast kernels for this machine's processor."""

    def __init__(self) -> None:
        super().__init__("cpu")


class ReferenceBackend(DeviceBackend):
    """The shaders themselves, run on the host: slow, checked, for tests."""

    def __init__(self) -> None:
        super().__init__("reference")
