"""CUDA's driver through ctypes, as much of it as running and timing kernels takes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
_CAPABILITY = (75, 76)
# CU_EVENT_RECORD_EXTERNAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL.
_EVENT_RECORD_EXTERNAL = 1
_CAPTURE_MODE_THREAD = 1


class Missing(RuntimeError):
    """This machine has no GPU that CUDA knows; the message says what is missing."""


class CudaError(RuntimeError):
    """A call of the driver failed: the call, CUDA's name of the error and its text."""


class Memory:
    """A piece of GPU memory, freed with the object."""

    def __init__(self, cuda: Cuda, size: int) -> None:
        self.cuda, self.size = cuda, size
        address = ctypes.c_uint64()
        cuda.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(size, 1)))
        self.address = address.value

    def __del__(self) -> None:
        # At the interpreter's end the driver may be gone; so is the memory then.
        if hasattr(self, "address"):
            self.cuda.library.cuMemFree_v2(ctypes.c_uint64(self.address))

    def fill(self, byte: int) -> None:
        """Every byte becomes ``byte``."""
        if self.size:
            self.cuda.call(
                "cuMemsetD8_v2", ctypes.c_uint64(self.address), byte, ctypes.c_size_t(self.size)
            )

    def upload(self, data: np.ndarray | bytes) -> None:
        """Copy all of ``data`` to the beginning."""
        raw = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
        if raw.nbytes > self.size:
            raise ValueError(f"{raw.nbytes} bytes do not fit into {self.size}")
        if raw.nbytes:
            if not raw.flags.c_contiguous:
                raise ValueError("only C-contiguous arrays can be uploaded")
            where = ctypes.c_void_p(raw.ctypes.data)
            self.cuda.call(
                "cuMemcpyHtoD_v2",
                *(ctypes.c_uint64(self.address), where, ctypes.c_size_t(raw.nbytes)),
            )

    def tile(self, block: np.ndarray) -> None:
        """Fill all of it with copies of ``block`` (C-contiguous), made on the GPU."""
        done = min(block.nbytes, self.size)
        self.upload(block.reshape(-1).view(np.uint8)[:done])
        while 0 < done < self.size:
            count = min(done, self.size - done)
            self.cuda.call(
                "cuMemcpyDtoD_v2",
                *(ctypes.c_uint64(self.address + done), ctypes.c_uint64(self.address)),
                ctypes.c_size_t(count),
            )
            done += count

    def download(self) -> np.ndarray:
        """All of it, as bytes; waits for the kernels before it."""
        raw = np.empty(self.size, np.uint8)
        if self.size:
            where = ctypes.c_void_p(raw.ctypes.data)
            self.cuda.call(
                "cuMemcpyDtoH_v2",
                *(where, ctypes.c_uint64(self.address), ctypes.c_size_t(self.size)),
            )
        return raw


class Event:
    """A point in the stream of commands, with the GPU's time."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.handle = ctypes.c_void_p()
        cuda.call("cuEventCreate", ctypes.byref(self.handle), 0)

    def __del__(self) -> None:
        self.cuda.library.cuEventDestroy_v2(self.handle)

    def record(self) -> None:
        """Mark the present end of the stream; in a graph, every time that the graph runs."""
        flag = _EVENT_RECORD_EXTERNAL if self.cuda.capturing else 0
        self.cuda.call("cuEventRecordWithFlags", self.handle, self.cuda.stream, flag)

    def microseconds_since(self, start: Event) -> float:
        """The GPU's time between two events; waits for this one."""
        self.cuda.call("cuEventSynchronize", self.handle)
        time = ctypes.c_float()
        # Named _v2 since CUDA 12.8; the first one is everywhere.
        self.cuda.call("cuEventElapsedTime", ctypes.byref(time), start.handle, self.handle)
        return time.value * 1000


class Graph:
    """What ``commands`` start, as a CUDA graph: one start of it costs the host nothing more per
    kernel.
    """

    def __init__(self, cuda: Cuda, commands: Callable[[], None]) -> None:
        self.cuda = cuda
        graph = ctypes.c_void_p()
        cuda.call("cuStreamBeginCapture_v2", cuda.stream, _CAPTURE_MODE_THREAD)
        cuda.capturing = True
        try:
            commands()
        finally:
            cuda.capturing = False
            cuda.call("cuStreamEndCapture", cuda.stream, ctypes.byref(graph))
        self.handle = ctypes.c_void_p()
        cuda.call("cuGraphInstantiateWithFlags", ctypes.byref(self.handle), graph, 0)
        cuda.call("cuGraphDestroy", graph)

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            self.cuda.library.cuGraphExecDestroy(self.handle)

    def start(self) -> None:
        """Put all of it into the stream."""
        self.cuda.call("cuGraphLaunch", self.handle, self.cuda.stream)


class Cuda:
    """The first GPU's primary context, current in this thread. Raises Missing."""

    def __init__(self) -> None:
        try:
            self.library = ctypes.CDLL("libcuda.so.1")
        except OSError:
            raise Missing("libcuda.so.1, CUDA's driver, is not installed") from None
        if self.library.cuInit(0) != 0:
            raise Missing("CUDA's driver finds no GPU")
        device = ctypes.c_int()
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        name = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", name, len(name), device)
        self.name = name.value.decode()
        numbers = []
        for attribute in _CAPABILITY:
            value = ctypes.c_int()
            self.call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
            numbers.append(value.value)
        self.architecture = f"sm_{numbers[0]}{numbers[1]}"
        context = ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)
        self.stream = ctypes.c_void_p()
        self.call("cuStreamCreate", ctypes.byref(self.stream), 0)
        self.capturing = False
        # Modules stay as long as the process.
        self._modules: list[ctypes.c_void_p] = []

    def call(self, function: str, *arguments: Any) -> None:
        """Call the driver; raises CudaError."""
        status = getattr(self.library, function)(*arguments)
        if status == 0:
            return
        texts = []
        for get in ("cuGetErrorName", "cuGetErrorString"):
            text = ctypes.c_char_p()
            getattr(self.library, get)(status, ctypes.byref(text))
            texts.append((text.value or b"?").decode())
        raise CudaError(f"{function}: {texts[0]} ({texts[1]})")

    def load(self, code: bytes) -> ctypes.c_void_p:
        """Load machine code; the module for ``function``."""
        module = ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), code)
        self._modules.append(module)
        return module

    def function(self, module: ctypes.c_void_p, name: str) -> ctypes.c_void_p:
        """An entry point of a module."""
        function = ctypes.c_void_p()
        self.call("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
        return function

    def launch(
        self,
        function: ctypes.c_void_p,
        groups: Sequence[int],
        threads: Sequence[int],
        arguments: ctypes.Array[ctypes.c_void_p],
    ) -> None:
        """Put a kernel into the stream; ``arguments`` are pointers to its values."""
        self.call("cuLaunchKernel", function, *groups, *threads, 0, self.stream, arguments, None)

    def synchronize(self) -> None:
        """Wait for all that was started; raises CudaError for what went wrong in a kernel."""
        self.call("cuCtxSynchronize")


@cache
def cuda() -> Cuda:
    """The one context of this process. Raises Missing."""
    return Cuda()
