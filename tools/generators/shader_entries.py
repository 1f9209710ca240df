"""Generates the entry points of the kernels: for Metal, CUDA, C++ for OpenCL and host C++.

An entry point binds a kernel record's operands, scratch arrays, parameters, threadgroup arrays and
built-ins, and calls the body ``npu_<kernel>`` (of a schedule: ``npu_<kernel>_<schedule>``) that the
shader file defines as a plain function (a template over T where the record has one).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from generators.layout import Member, param_layout
from npu_compiler.dtypes import BY_SHORT
from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.record import Kernel, Operand
from npu_compiler.kernels.schedule import EntryPoint


@dataclass(frozen=True)
class Variant:
    """An entry point with a value for its kernel's type variable; ``type`` is None where it has
    none.
    """

    kernel: Kernel
    entry: EntryPoint
    name: str
    type: str | None

    @property
    def arguments(self) -> list[tuple[str, str]]:
        """Name and element type, const for what is only read, of operands and scratch arrays."""
        return [
            *((o.name, self.pointee(o)) for o in self.kernel.operands),
            *((s.name, f"npu_{s.dtype}") for s in self.entry.scratch),
        ]

    @property
    def shared(self) -> list[tuple[str, str, int]]:
        """Name, short dtype and number of elements of each threadgroup array."""
        return [(n, self.type if t == "T" and self.type else t, c) for n, t, c in self.entry.shared]

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
        return f"npu_{self.entry.name}{template}({arguments});"


def variants(kernel: Kernel, shader: str | None = None) -> Iterator[Variant]:
    """Every variant of ``kernel``'s entry points (of those in file ``shader``), in order."""
    for entry in kernel.entry_points:
        if shader in (None, entry.shader):
            types = kernel.type_values
            for name, short in zip(entry.variants(types), types or (None,), strict=True):
                yield Variant(kernel, entry, name, short)


def _entry(head: str, parameters: list[str], body: list[str]) -> str:
    signature = ",\n    ".join(parameters)
    lines = "".join(f"  {line}\n" for line in body)
    return f"{head}(\n    {signature}) {{\n{lines}}}\n"


def _shared(v: Variant, qualifier: str) -> list[str]:
    return [f"{qualifier} npu_{dtype} {name}[{count}];" for name, dtype, count in v.shared]


def _direct_call(v: Variant, params: str = "params") -> str:
    return v.call([name for name, _ in v.arguments], params, [s[0] for s in v.shared])


def fixed_words(declaration: str) -> str:
    """Declares a constant for each word of a parameter struct that may be fixed at load;
    ``{}`` in the declaration is the word's number.
    """
    most = max(param_layout(kernel).fixed_words for kernel in KERNELS.values())
    return "".join(declaration.format(k) + "\n" for k in range(most))


def _value(member: Member) -> str:
    """A member of a parameter struct, out of words that are fixed or else read."""
    word = member.offset // 4
    if member.name.endswith("_pad"):
        return "0"
    if member.count > 1:
        return f"NPU_ARRAY({member.type}, {word})"
    return f"NPU_{member.type.removeprefix('npu_').upper()}({word}, {word + 1})"


def _values(kernel: Kernel) -> list[str]:
    """Declares ``values``, the parameter struct out of the words ``params``."""
    rows = [f"    {_value(m)}," for m in param_layout(kernel).members]
    return [f"const {kernel.struct_name} values = {{", *rows, "};"]


def metal_entry(v: Variant) -> str:
    """A Metal kernel: argument k is buffer k, the parameter struct the buffer behind the last.
    Names of threads begin with ``thread_``, which no operand's does. Parameters that the pipeline
    fixes are not read from the buffer.
    """
    arguments = v.arguments
    return _entry(
        f"kernel void {v.name}",
        [
            *(f"device {t}* {name} [[buffer({k})]]" for k, (name, t) in enumerate(arguments)),
            f"constant npu_u32* params [[buffer({len(arguments)})]]",
            "uint3 thread_group [[threadgroup_position_in_grid]]",
            "uint3 thread_place [[thread_position_in_grid]]",
            "uint thread_index [[thread_index_in_threadgroup]]",
            "uint thread_lane [[thread_index_in_simdgroup]]",
            "uint thread_simd [[simdgroup_index_in_threadgroup]]",
        ],
        [
            # is_function_constant_defined is among them.
            "using namespace metal;",
            *_shared(v, "alignas(16) threadgroup"),
            "const NpuThread self = {thread_group.x, thread_group.y, thread_group.z,",
            "                        thread_place.x, thread_place.y, thread_place.z,",
            "                        thread_index, thread_lane, thread_simd};",
            *_values(v.kernel),
            _direct_call(v, "values"),
        ],
    )


def cuda_entry(v: Variant) -> str:
    """A CUDA kernel: operands and scratch arrays in binding order, then the parameter struct by
    value.
    """
    x, y, z = v.entry.launch.threadgroup
    index = f"threadIdx.x + {x} * (threadIdx.y + {y} * threadIdx.z)"
    return _entry(
        f'extern "C" __global__ void __launch_bounds__({x * y * z}) {v.name}',
        [
            *(f"{t}* {name}" for name, t in v.arguments),
            f"const __grid_constant__ {v.kernel.struct_name} params",
        ],
        [
            *_shared(v, "__shared__ __align__(16)"),
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
            *(f"global {t}* {name}" for name, t in v.arguments),
            "constant npu_u32* params",
        ],
        [
            *_shared(v, "local"),
            "const NpuThread self = {0, 0, 0, 0, 0, 0, 0, 0, 0};",
            *_values(v.kernel),
            _direct_call(v, "values"),
        ],
    )


def host_entry(v: Variant) -> str:
    """A host function that runs one thread of a launch."""
    pointers = [f"CheckedPtr<{t}>(launch.operands[{k}])" for k, (_, t) in enumerate(v.arguments)]
    shared = [
        f"CheckedPtr<npu_{dtype}>(launch.shared[{k}])" for k, (_, dtype, _) in enumerate(v.shared)
    ]
    params = f"*static_cast<const {v.kernel.struct_name}*>(launch.params)"
    return _entry(
        f"void {v.name}",
        ["const Launch& launch", "const NpuThread& self"],
        [v.call(pointers, params, shared)],
    )


def _host_row(v: Variant) -> tuple[list[str], str]:
    """The arrays that a row of the host table refers to, and the row."""
    arrays = []
    names = {"shared": "{}", "scratch": "{}"}
    items = {
        "shared": [(n, count * BY_SHORT[dtype].size) for n, dtype, count in v.shared],
        "scratch": [(s.name, BY_SHORT[s.dtype].size) for s in v.entry.scratch],
    }
    for kind, rows in items.items():
        if rows:
            names[kind] = f"{kind}_{v.name}"
            text = ", ".join(f'{{"{n}", {size}}}' for n, size in rows)
            arrays.append(f"constexpr {kind.capitalize()}Array {names[kind]}[] = {{{text}}};")
    dtype = BY_SHORT[v.type].id if v.type else 0
    place = f"{v.kernel.id}, {dtype}, {v.entry.schedule}, {v.entry.stage}"
    return arrays, f'    {{{place}, "{v.name}", {names["shared"]}, {names["scratch"]}, {v.name}}},'


def host_table(kernels: list[Kernel]) -> str:
    """The table of all host entry points."""
    rows = [_host_row(v) for kernel in kernels for v in variants(kernel)]
    return "\n".join(
        [
            *(line for arrays, _ in rows for line in arrays),
            "const EntryPoint kEntryPoints[] = {",
            *(row for _, row in rows),
            *("};", ""),
        ]
    )


# By name of compat/<name>.h: file suffix of the compiler's text and generator of its entry points.
COMPILERS: dict[str, tuple[str, Callable[[Variant], str]]] = {
    "metal": (".metal", metal_entry),
    "cuda": (".cu", cuda_entry),
    "clcpp": (".clcpp", clcpp_entry),
}
