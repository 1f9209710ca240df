"""Dispatches of a program as CUDA launches: entry point, parameter struct, grid, addresses."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from npu_compiler.compiled_program import KernelCall, OperandView
from npu_compiler.dtypes import DTYPES
from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.expr import evaluate
from npu_compiler.kernels.schedule import Launch as RecordLaunch
from npu_compiler.kernels.schedule import Schedule
from tests.gpu.driver import Memory, cuda
from tests.shaders.nvrtc import compile_cuda
from tests.shaders.texts import generator, shader_text


@dataclass(frozen=True)
class Launch:
    """A launch of a dispatch that is ready to go. ``memory`` is what the argument pointers point
    to, and scratch memory.
    """

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


def _type_of(call: KernelCall) -> str | None:
    """Short dtype that the kernel's type variable stands for; None where it has none."""
    kernel = KERNELS[call.kernel_name]
    for operand, view in zip(kernel.operands, call.operands, strict=True):
        if operand.dtype == "T" and view is not None:
            return DTYPES[view.dtype].short
    if kernel.types:
        raise ValueError(f"{call.name}: no operand says which dtype {kernel.name} computes in")
    return None


def _groups(launch: RecordLaunch, size: Sequence[int]) -> tuple[int, int, int]:
    """Threadgroups in x, y, z."""
    if launch.unit == "threads":
        size = [-(-n // threads) for n, threads in zip(size, launch.threadgroup, strict=True)]
    x, y, z = size
    return x, y, z


# How a dispatch is run: by a schedule, or (None) by its record's own launch.
Pick = Callable[[KernelCall], Schedule | None]


def _views(call: KernelCall) -> dict[str, OperandView | None]:
    operands = KERNELS[call.kernel_name].operands
    return {o.name: view for o, view in zip(operands, call.operands, strict=True)}


def chosen(call: KernelCall) -> Schedule | None:
    """As a GPU device runs it."""
    return KERNELS[call.kernel_name].choose(_views(call), call.params)


def own_launch(_call: KernelCall) -> Schedule | None:
    """As the record says."""
    return None


def fitting(call: KernelCall) -> list[Schedule]:
    """The schedules that are right for a dispatch, whether they pay or not."""
    kernel, views = KERNELS[call.kernel_name], _views(call)
    env = kernel.view_environment(views, call.params)
    return [s for s in kernel.schedules if s.fits(env, views, worth=False)]


def fitting_number(number: int) -> Pick:
    """Schedule ``number`` of those that are right for a dispatch; where there are fewer, as a GPU
    device runs it.
    """

    def pick(call: KernelCall) -> Schedule | None:
        found = fitting(call)
        return found[number] if number < len(found) else chosen(call)

    return pick


def make_launches(
    call: KernelCall,
    addresses: Sequence[int | None],
    pick: Pick = chosen,
    scratch: Callable[[int], Memory] | None = None,
) -> list[Launch]:
    """The launches of a dispatch whose operands begin at ``addresses`` (None: the operand is
    absent). ``scratch`` gives memory to the stages of a schedule, by default some of their own.

    Raises CudaError or RuntimeError for a kernel that does not compile or load.
    """
    kernel = KERNELS[call.kernel_name]
    views = _views(call)
    schedule = pick(call)
    number = 0 if schedule is None else 1 + kernel.schedules.index(schedule)
    env = kernel.view_environment(views, call.params)
    arrays: list[Memory] = []
    if schedule is not None:
        give = scratch or (lambda size: Memory(cuda(), size))
        arrays = [give(size) for size in schedule.scratch_bytes(env)]
    values = [ctypes.c_uint64(a or 0) for a in (*addresses, *(m.address for m in arrays))]
    parameters = ctypes.create_string_buffer(parameter_struct(call), _layout(kernel.name).size)
    held = (*values, parameters)
    pointers = (ctypes.c_void_p * len(held))(*(ctypes.addressof(m) for m in held))
    dtype = _type_of(call)
    launches = []
    for point in kernel.entry_points:
        if point.schedule != number:
            continue
        (name,) = point.variants(() if dtype is None else (dtype,))
        groups = _groups(point.launch, [evaluate(size, env) for size in point.launch.size])
        function = _function(point.shader, name)
        memory = (held, arrays)
        launches.append(Launch(name, function, groups, point.launch.threadgroup, pointers, memory))
    return launches
