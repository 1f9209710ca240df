"""Generates the entry points of the kernels: for Metal, CUDA, C++ for OpenCL and host C++.

An entry point binds a kernel record's operands, parameters, threadgroup arrays and built-ins, and
calls the body ``npu_<kernel>`` that the shader file defines as a plain function (a template over T
where the record has one).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from npu_compiler.dtypes import BY_SHORT
from npu_compiler.kernels.record import Kernel, Operand


@dataclass(frozen=True)
class Variant:
    """A kernel with a value for its type variable; ``type`` is None where it has none."""

    kernel: Kernel
    name: str
    type: str | None

    def element(self, operand: Operand) -> str:
        """The type of an operand's elements; bytes where the dtype is known at run time only."""
        if operand.dtype == "any":
            return "npu_u8"
        short = self.type if operand.dtype == "T" else operand.dtype
        return f"npu_{short}"

    def pointee(self, operand: Operand) -> str:
        """The element type, const for operands that are only read."""
        return f"{'const ' if operand.access == 'read' else ''}{self.element(operand)}"

    def call(self, operands: list[str], params: str, shared: list[str]) -> str:
        """The call of the kernel's body."""
        template = f"<npu_{self.type}>" if self.type else ""
        arguments = ", ".join([*operands, params, *shared, "self"])
        return f"npu_{self.kernel.name}{template}({arguments});"


def variants(kernel: Kernel) -> Iterator[Variant]:
    """Every variant of ``kernel``, in the record's order."""
    if not kernel.types:
        yield Variant(kernel, kernel.name, None)
        return
    (shorts,) = kernel.types.values()
    for name, short in zip(kernel.variants, shorts, strict=True):
        yield Variant(kernel, name, short)


def _entry(head: str, parameters: list[str], body: list[str]) -> str:
    signature = ",\n    ".join(parameters)
    lines = "".join(f"  {line}\n" for line in body)
    return f"{head}(\n    {signature}) {{\n{lines}}}\n"


def _shared(kernel: Kernel, qualifier: str) -> list[str]:
    return [f"{qualifier} npu_{dtype} {name}[{count}];" for name, dtype, count in kernel.shared]


def _direct_call(v: Variant) -> str:
    return v.call([o.name for o in v.kernel.operands], "params", [s[0] for s in v.kernel.shared])


def metal_entry(v: Variant) -> str:
    """A Metal kernel: operand k is buffer k, the parameter struct the buffer behind the last.
    Names of threads begin with ``thread_``, which no operand's does.
    """
    operands = v.kernel.operands
    return _entry(
        f"kernel void {v.name}",
        [
            *(f"device {v.pointee(o)}* {o.name} [[buffer({k})]]" for k, o in enumerate(operands)),
            f"constant {v.kernel.struct_name}& params [[buffer({len(operands)})]]",
            "uint3 thread_group [[threadgroup_position_in_grid]]",
            "uint3 thread_place [[thread_position_in_grid]]",
            "uint thread_index [[thread_index_in_threadgroup]]",
            "uint thread_lane [[thread_index_in_simdgroup]]",
            "uint thread_simd [[simdgroup_index_in_threadgroup]]",
        ],
        [
            *_shared(v.kernel, "threadgroup"),
            "const NpuThread self = {thread_group.x, thread_group.y, thread_group.z,",
            "                        thread_place.x, thread_place.y, thread_place.z,",
            "                        thread_index, thread_lane, thread_simd};",
            _direct_call(v),
        ],
    )


def cuda_entry(v: Variant) -> str:
    """A CUDA kernel: operands in binding order, then the parameter struct by value."""
    x, y, z = v.kernel.launch.threadgroup
    index = f"threadIdx.x + {x} * (threadIdx.y + {y} * threadIdx.z)"
    return _entry(
        f'extern "C" __global__ void __launch_bounds__({x * y * z}) {v.name}',
        [
            *(f"{v.pointee(o)}* {o.name}" for o in v.kernel.operands),
            f"const __grid_constant__ {v.kernel.struct_name} params",
        ],
        [
            *_shared(v.kernel, "__shared__"),
            f"const npu_u32 thread_index = {index};",
            "const NpuThread self = {blockIdx.x, blockIdx.y, blockIdx.z,",
            f"                        blockIdx.x * {x} + threadIdx.x, "
            f"blockIdx.y * {y} + threadIdx.y,",
            f"                        blockIdx.z * {z} + threadIdx.z, "
            "thread_index, thread_index % 32, thread_index / 32};",
            _direct_call(v),
        ],
    )


def clcpp_entry(v: Variant) -> str:
    """A C++ for OpenCL kernel; it is only checked, so every thread is the first one."""
    return _entry(
        f"kernel void {v.name}",
        [
            *(f"global {v.pointee(o)}* {o.name}" for o in v.kernel.operands),
            f"constant {v.kernel.struct_name}& params",
        ],
        [
            *_shared(v.kernel, "local"),
            "const NpuThread self = {0, 0, 0, 0, 0, 0, 0, 0, 0};",
            _direct_call(v),
        ],
    )


def host_entry(v: Variant) -> str:
    """A host function that runs one thread of a launch."""
    pointers = [
        f"CheckedPtr<{v.pointee(o)}>(launch.operands[{k}])" for k, o in enumerate(v.kernel.operands)
    ]
    shared = [
        f"CheckedPtr<npu_{dtype}>(launch.shared[{k}])"
        for k, (_, dtype, _) in enumerate(v.kernel.shared)
    ]
    params = f"*static_cast<const {v.kernel.struct_name}*>(launch.params)"
    return _entry(
        f"void {v.name}",
        ["const Launch& launch", "const NpuThread& self"],
        [v.call(pointers, params, shared)],
    )


def host_table(kernels: list[Kernel]) -> str:
    """The table of all host entry points."""
    arrays: list[str] = []
    rows: list[str] = []
    for kernel in kernels:
        shared = "{}"
        if kernel.shared:
            shared = f"shared_{kernel.name}"
            items = ", ".join(
                f'{{"{name}", {count * BY_SHORT[dtype].size}}}'
                for name, dtype, count in kernel.shared
            )
            arrays.append(f"constexpr SharedArray {shared}[] = {{{items}}};")
        for v in variants(kernel):
            dtype = BY_SHORT[v.type].id if v.type else 0
            rows.append(f'    {{{kernel.id}, {dtype}, "{v.name}", {shared}, {v.name}}},')
    return "\n".join([*arrays, "const EntryPoint kEntryPoints[] = {", *rows, "};", ""])


# By name of compat/<name>.h: file suffix of the compiler's text and generator of its entry points.
COMPILERS: dict[str, tuple[str, Callable[[Variant], str]]] = {
    "metal": (".metal", metal_entry),
    "cuda": (".cu", cuda_entry),
    "clcpp": (".clcpp", clcpp_entry),
}
