"""Dispatches of a program as CUDA launches: entry point, parameter struct, grid, addresses."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from npu_compiler.compiled_program import KernelCall
from npu_compiler.dtypes import DTYPES
from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.record import Kernel
from tests.gpu.driver import cuda
from tests.shaders.nvrtc import compile_cuda
from tests.shaders.texts import generator, shader_text


@dataclass(frozen=True)
class Launch:
    """A dispatch that is ready to go. ``memory`` is what the argument pointers point to."""

    entry: str
    function: ctypes.c_void_p
    groups: tuple[int, int, int]
    threads: tuple[int, int, int]
    arguments: ctypes.Array[ctypes.c_void_p]
    memory: tuple[Any, ...]

    def start(self) -> None:
        """Put it into the stream; a grid of no threads is nothing."""
        if 0 not in self.groups:
            cuda().launch(self.function, self.groups, self.threads, self.arguments)


@cache
def _module(shader: str) -> ctypes.c_void_p:
    code, log = compile_cuda(shader_text(shader, "cuda"), cuda().architecture)
    if not code:
        raise RuntimeError(f"{shader} does not compile:\n{log}")
    return cuda().load(code)


@cache
def _function(shader: str, entry: str) -> ctypes.c_void_p:
    return cuda().function(_module(shader), entry)


@cache
def _layout(kernel: str) -> Any:
    generator()
    from generators.layout import param_layout

    return param_layout(KERNELS[kernel])


def parameter_struct(call: KernelCall) -> bytes:
    """A dispatch's parameter struct, as ``build_params`` of cpp/runtime makes it."""
    kernel = KERNELS[call.kernel_name]
    layout = _layout(call.kernel_name)
    data = bytearray(layout.size)
    for view, place in zip(call.operands, layout.operands, strict=True):
        if view is None:
            continue
        struct.pack_into(f"<{len(view.shape)}I", data, place.shape, *view.shape)
        struct.pack_into(f"<{len(view.strides)}q", data, place.strides, *view.strides)
        if place.dtype is not None:
            struct.pack_into("<I", data, place.dtype, DTYPES[view.dtype].id)
    fields = kernel.pack_fields(call.params)
    data[layout.field_offset : layout.field_offset + len(fields)] = fields
    return bytes(data)


def entry_name(call: KernelCall) -> str:
    """The variant of the kernel for the dtype of the dispatch's operands."""
    kernel = KERNELS[call.kernel_name]
    if not kernel.types:
        return kernel.name
    for operand, view in zip(kernel.operands, call.operands, strict=True):
        if operand.dtype == "T" and view is not None:
            return f"{kernel.name}_{DTYPES[view.dtype].short}"
    raise ValueError(f"{call.name}: no operand says which dtype {kernel.name} computes in")


def groups_of(call: KernelCall, kernel: Kernel) -> tuple[int, int, int]:
    """Threadgroups in x, y, z."""
    if kernel.launch.unit == "threadgroups":
        return call.grid
    x, y, z = (
        -(-size // threads) for size, threads in zip(call.grid, call.threadgroup, strict=True)
    )
    return x, y, z


def make_launch(call: KernelCall, addresses: Sequence[int | None]) -> Launch:
    """The launch of a dispatch whose operands begin at ``addresses``; None: the operand is absent.

    Raises CudaError or RuntimeError for a kernel that does not compile or load.
    """
    kernel = KERNELS[call.kernel_name]
    entry = entry_name(call)
    values = [ctypes.c_uint64(a or 0) for a in addresses]
    parameters = ctypes.create_string_buffer(parameter_struct(call), _layout(kernel.name).size)
    memory = (*values, parameters)
    pointers = (ctypes.c_void_p * len(memory))(*(ctypes.addressof(m) for m in memory))
    return Launch(
        entry,
        _function(kernel.shader, entry),
        groups_of(call, kernel),
        call.threadgroup,
        pointers,
        memory,
    )
