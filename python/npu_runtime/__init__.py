"""npu_runtime: devices, buffers, weights and the execution of compiled programs."""

from __future__ import annotations

from npu_runtime.backend import (
    Backend,
    CpuBackend,
    CudaBackend,
    DeviceBackend,
    DeviceBuffer,
    MetalBackend,
    ReferenceBackend,
)
from npu_runtime.buffer import NPUBuffer
from npu_runtime.cpu_fallback import execute_cpu_partition
from npu_runtime.dag_executor import DAGExecutor
from npu_runtime.device import Device, available_devices
from npu_runtime.errors import NpuError
from npu_runtime.executor import Executor
from npu_runtime.prepared_run import PreparedRun
from npu_runtime.profiler import Profiler, profile
from npu_runtime.quantization import QuantizedWeight, quantization_errors
from npu_runtime.weight_loader import load_weights
from npu_runtime.weight_set import WeightSet

__all__ = [
    "Backend",
    "CpuBackend",
    "CudaBackend",
    "DAGExecutor",
    "Device",
    "DeviceBackend",
    "DeviceBuffer",
    "Executor",
    "MetalBackend",
    "NPUBuffer",
    "NpuError",
    "PreparedRun",
    "Profiler",
    "QuantizedWeight",
    "ReferenceBackend",
    "WeightSet",
    "available_devices",
    "execute_cpu_partition",
    "load_weights",
    "profile",
    "quantization_errors",
]
