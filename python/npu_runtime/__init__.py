"""npu_runtime: devices, buffers, weights and the execution of compiled programs."""

from __future__ import annotations

from npu_runtime.buffer import NPUBuffer
from npu_runtime.device import Device, available_devices
from npu_runtime.errors import NpuError
from npu_runtime.executor import Executor
from npu_runtime.profiler import Profiler, profile
from npu_runtime.weight_loader import load_weights
from npu_runtime.weight_set import WeightSet

__all__ = [
    "Device",
    "Executor",
    "NPUBuffer",
    "NpuError",
    "Profiler",
    "WeightSet",
    "available_devices",
    "load_weights",
    "profile",
]
