"""The byte layout of a kernel's parameter struct, derived from its record."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from npu_compiler.kernels.record import MAX_PARAM_BYTES, Kernel

_SIZES = {"npu_u32": 4, "npu_i32": 4, "npu_f32": 4, "npu_i64": 8}


@dataclass(frozen=True)
class Member:
    """One member of a parameter struct: C type, array length (1: a scalar), byte offset."""

    name: str
    type: str
    count: int
    offset: int
    doc: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return _SIZES[self.type] * self.count


@dataclass(frozen=True)
class OperandLayout:
    """Where an operand's shape, strides and dtype id lie; ``dtype``: only where it is ``any``."""

    shape: int
    strides: int
    dtype: int | None


@dataclass(frozen=True)
class ParamLayout:
    """A parameter struct: operands in binding order, then the field block, padded to 8 bytes."""

    members: tuple[Member, ...]
    operands: tuple[OperandLayout, ...]
    field_offset: int
    size: int

    @property
    def fixed_words(self) -> int:
        """The 4-byte words that a compiler may fix when a program is loaded: all before an array,
        behind which nothing but padding comes.
        """
        return next((m.offset for m in self.members if m.count > 1), self.size) // 4


def param_layout(kernel: Kernel) -> ParamLayout:
    """Lay out ``kernel``'s parameter struct.

    Raises ValueError for duplicate names, structs beyond Metal's limit and fields behind arrays.
    """
    members: list[Member] = []
    operands: list[OperandLayout] = []

    def end() -> int:
        return members[-1].offset + members[-1].size if members else 0

    def add(name: str, kind: str, count: int = 1, doc: str = "") -> int:
        offset = end()
        members.append(Member(name, kind, count, offset, doc))
        return offset

    def pad(name: str) -> None:
        if end() % 8:
            add(name, "npu_u32", doc="zero")

    for o in kernel.operands:
        shape = end()
        for axis in o.axes:
            add(f"{o.name}_{axis}", "npu_u32")
        dtype = add(f"{o.name}_dtype", "npu_u32") if o.dtype == "any" else None
        pad(f"{o.name}_pad")
        strides = end()
        for axis in o.axes:
            add(f"{o.name}_s{axis}", "npu_i64")
        operands.append(OperandLayout(shape, strides, dtype))
    field_offset = end()
    for f in kernel.fields:
        add(f.name, f"npu_{f.type}", f.count, f.doc)
    pad("end_pad")

    seen = [m.name for m in members]
    if len(set(seen)) != len(seen):
        raise ValueError(f"{kernel.name}: duplicate member in {sorted(seen)}")
    if any(a.count > 1 and b.count == 1 for a, b in pairwise(kernel.fields)):
        raise ValueError(f"{kernel.name}: fields that are arrays must come last")
    if end() > MAX_PARAM_BYTES:
        raise ValueError(f"{kernel.name}: {end()} parameter bytes, at most {MAX_PARAM_BYTES} fit")
    return ParamLayout(tuple(members), tuple(operands), field_offset, end())


def camel(name: str) -> str:
    """``SOURCE_TENSORS`` or ``source_tensors`` -> ``SourceTensors``."""
    return "".join(part.capitalize() for part in name.split("_"))
