"""CompiledProgram: everything a .npubin holds, as plain data."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import NamedTuple

from npu_compiler.dtypes import DTYPES
from npu_compiler.kernels import KERNELS
from npu_compiler.layout import transform_steps
from npu_compiler.program.recipes import Recipe


class TensorSpec(NamedTuple):
    """A named tensor. ``shape``, ``alloc_shape`` and ``strides`` (elements) are in logical (NCHW)
    order; ``dtype`` is the dtype in the IR, which the user gets back, ``storage_dtype`` the one in
    device memory. ``buffer`` indexes ``buffer_allocations``, ``offset`` is in bytes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    alloc_shape: tuple[int, ...]
    storage_dtype: str
    layout: str
    strides: tuple[int, ...]
    buffer: int
    offset: int = 0

    @property
    def transform_steps(self) -> tuple[dict[str, object], ...]:
        """What turns the user's row-major array into the device's memory: cast, pad, permute."""
        return transform_steps(
            self.dtype, self.storage_dtype, self.shape, self.alloc_shape, self.layout
        )

    @property
    def size_bytes(self) -> int:
        """Bytes that the tensor spans in memory, padding included."""
        return prod(self.alloc_shape) * DTYPES[self.storage_dtype].size


class BufferAllocation(NamedTuple):
    """A piece of device memory. ``offset``: in the arena, or in the constants. ``alias_of``: the
    buffer whose memory it takes over. ``shape``, ``alloc_shape`` and ``dtype`` (storage) are those
    of the tensor it was made for.
    """

    name: str
    kind: str
    size_bytes: int
    offset: int = 0
    alias_of: int | None = None
    first_use: int = 0
    last_use: int = 0
    shape: tuple[int, ...] = ()
    alloc_shape: tuple[int, ...] = ()
    dtype: str = "float32"


class OperandView(NamedTuple):
    """What a dispatch binds for one operand: a strided window on a buffer (offset in bytes, strides
    in elements).
    """

    name: str
    buffer: int
    offset: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    access: str
    tensor: int | None = None


class SourceLocation(NamedTuple):
    """The IR node that a dispatch computes last, and where it stands in the model's source."""

    node: str
    op_type: str
    module: str = ""
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class KernelCall:
    """One dispatch: ``operands`` follow the kernel record's order (None: absent), ``params`` are
    its fields.
    """

    name: str
    kernel_name: str
    operands: tuple[OperandView | None, ...]
    params: Mapping[str, int | float | tuple[int | float, ...]]
    grid: tuple[int, int, int]
    threadgroup: tuple[int, int, int]
    flops: int = 0
    bytes: int = 0
    source: SourceLocation | None = None

    @property
    def kernel_source(self) -> str:
        """The shader file."""
        return KERNELS[self.kernel_name].shader

    @property
    def dispatch_type(self) -> str:
        """How many dimensions the grid has: ``1d``, ``2d`` or ``3d``."""
        used = max((i for i, n in enumerate(self.grid, 1) if n != 1), default=1)
        return f"{used}d"

    @property
    def input_buffers(self) -> tuple[int, ...]:
        """Indices of the buffers it reads."""
        return tuple(o.buffer for o in self.operands if o is not None and o.access == "read")

    @property
    def output_buffers(self) -> tuple[int, ...]:
        """Indices of the buffers it writes."""
        return tuple(o.buffer for o in self.operands if o is not None and o.access == "write")


class SourceTensor(NamedTuple):
    """A state_dict tensor that weights are made from."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """A function of the program: a range of kernel calls, and tensor indices of its inputs and
    outputs. ``donors``: for every output the index of the input whose memory it takes over, or
    None; empty where there are none.
    """

    name: str
    dispatch_first: int
    dispatch_count: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]
    arena_size: int
    donors: tuple[int | None, ...] = ()


@dataclass(frozen=True)
class ProgramEntry:
    """An entry point of a program with all that it refers to. ``index`` counts entry points."""

    program: CompiledProgram
    index: int

    @property
    def record(self) -> EntryPoint:
        """The entry point itself, with its tensors as indices."""
        return self.program.entry_points[self.index]

    @property
    def name(self) -> str:
        """Its name, unique in the program."""
        return self.record.name

    @property
    def input_specs(self) -> list[TensorSpec]:
        """What it takes."""
        return [self.program.tensors[t] for _, t in self.record.inputs]

    @property
    def output_specs(self) -> list[TensorSpec]:
        """What it returns."""
        return [self.program.tensors[t] for _, t in self.record.outputs]

    @property
    def kernel_calls(self) -> tuple[KernelCall, ...]:
        """Its dispatches, in order."""
        first = self.record.dispatch_first
        return self.program.kernel_calls[first : first + self.record.dispatch_count]

    @property
    def execution_plan(self) -> list[str]:
        """Names of its dispatches, in order."""
        return [call.name for call in self.kernel_calls]

    @property
    def arena_size(self) -> int:
        """Bytes of scratch memory of one run."""
        return self.record.arena_size

    @property
    def kept(self) -> dict[str, str]:
        """By output, the tensor of the IR that it is a copy of; see ``keep`` of ``compile``."""
        metadata = self.program.metadata
        entries: dict[str, dict[str, str]] = json.loads(metadata.get("entries", "{}"))
        found: dict[str, str] = json.loads(entries.get(self.name, metadata).get("kept", "{}"))
        return found


@dataclass
class CompiledProgram:
    """A compiled model. ``weight_recipes`` follows ``weight_specs``; ``path`` is set where it was
    loaded from or saved to. Treat it as immutable: ``to_bytes`` is computed once.
    """

    model_name: str
    compute_dtype: str
    tensors: tuple[TensorSpec, ...]
    buffer_allocations: tuple[BufferAllocation, ...]
    kernel_calls: tuple[KernelCall, ...]
    weight_tensors: tuple[int, ...]
    weight_recipes: tuple[Recipe, ...]
    source_tensors: tuple[SourceTensor, ...]
    entry_points: tuple[EntryPoint, ...]
    constants: bytes = b""
    metadata: dict[str, str] = field(default_factory=dict)
    weight_name_mapping: dict[str, str] = field(default_factory=dict)
    path: Path | None = None

    def entry(self, name: str | None = None) -> ProgramEntry:
        """The entry point ``name``, by default the first. KeyError lists the names there are."""
        if name is None:
            return ProgramEntry(self, 0)
        for index, entry in enumerate(self.entry_points):
            if entry.name == name:
                return ProgramEntry(self, index)
        raise KeyError(
            f"no entry point {name!r}: the program has {[e.name for e in self.entry_points]}"
        )

    @property
    def input_specs(self) -> list[TensorSpec]:
        """Inputs of the first entry point."""
        return self.entry().input_specs

    @property
    def output_specs(self) -> list[TensorSpec]:
        """Outputs of the first entry point."""
        return self.entry().output_specs

    @property
    def weight_specs(self) -> list[TensorSpec]:
        """Device weights, in the order in which a device binds them."""
        return [self.tensors[t] for t in self.weight_tensors]

    @property
    def execution_plan(self) -> list[str]:
        """Names of the kernel calls of the first entry point, in order."""
        return self.entry().execution_plan

    @property
    def kept(self) -> dict[str, str]:
        """``kept`` of the first entry point."""
        return self.entry().kept

    @property
    def arena_size(self) -> int:
        """Bytes of scratch memory of one run."""
        return max((entry.arena_size for entry in self.entry_points), default=0)

    @cached_property
    def _bytes(self) -> bytes:
        from npu_compiler.program.writer import write_program

        return write_program(self)

    def to_bytes(self) -> bytes:
        """The .npubin file's content."""
        return self._bytes

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the .npubin. The file is replaced only once the new content is complete on disk."""
        from npu_compiler.program.writer import save_atomically

        save_atomically(Path(path), self.to_bytes())
        self.path = Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CompiledProgram:
        """Read a .npubin; ``path`` is kept, so that a runtime can map the file.

        Raises FileNotFoundError, or ProgramFormatError naming the section and the value found.
        """
        from npu_compiler.program.reader import read_program

        file = Path(path)
        program = read_program(file.read_bytes(), str(file))
        program.path = file
        return program

    @classmethod
    def from_bytes(cls, data: bytes) -> CompiledProgram:
        """Read a .npubin from memory."""
        from npu_compiler.program.reader import read_program

        return read_program(data)
