"""The .npubin layout, declared once: the Python writer and reader and the generated C++ header
derive from it.

A file is: header, section table, sections. Everything is little-endian; sections start at 64-byte
boundaries in the order of ``SECTIONS`` and are arrays of fixed-size records (or raw bytes); records
refer to each other by index. A (first, count) pair of fields is a range of records in another
section.

Version policy: a reader opens every older minor version of its major. A minor version may append
record fields (readers take the stored ``record_size`` as the stride and read missing fields as
zero), kernels and recipe steps; anything else is a new major version.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property

MAGIC = b"\x89NPUBIN\n"
VERSION_MAJOR = 3
VERSION_MINOR = 0
ALIGNMENT = 64
MAX_RANK = 8
# An index field that refers to nothing.
NONE = 0xFFFFFFFF

# Limits that a reader enforces before it believes a file.
MAX_FILE_BYTES = 1 << 36
MAX_RECORDS = 1 << 22
MAX_DIM = (1 << 31) - 1
MAX_ELEMENTS = 1 << 40
MAX_ARENA_BYTES = 1 << 38
# A dispatch may do FREE_FLOPS operations, and beyond that MAX_FLOPS_PER_BYTE per byte that its
# views reach: broadcast strides let a file of a few bytes ask for years of work, and no honest
# kernel comes near (an n x n matmul has n / 3).
FREE_FLOPS = 1 << 32
MAX_FLOPS_PER_BYTE = 1 << 16

_FORMATS = {
    "u8": "B",
    "u16": "H",
    "u32": "I",
    "u64": "Q",
    "i64": "q",
    "f64": "d",
    # A string: offset and length in the string table (bytes, UTF-8, not terminated).
    "str": "II",
}


@dataclass(frozen=True)
class Field:
    """One field of a record; ``count`` > 1 makes it an array."""

    name: str
    type: str
    count: int = 1
    doc: str = ""

    @property
    def format(self) -> str:
        """``struct`` format."""
        return _FORMATS[self.type] * self.count


@dataclass(frozen=True)
class Record:
    """A fixed-size record. Fields are ordered so that C++ needs no implicit padding (checked here
    and by static_assert).
    """

    name: str
    doc: str
    fields: tuple[Field, ...]

    @cached_property
    def format(self) -> struct.Struct:
        """Packer of the whole record."""
        return struct.Struct("<" + "".join(f.format for f in self.fields))

    @property
    def size(self) -> int:
        """Bytes of one record."""
        return self.format.size

    def offset(self, name: str) -> int:
        """Bytes before a field."""
        before = [f.name for f in self.fields].index(name)
        return struct.calcsize("<" + "".join(f.format for f in self.fields[:before]))

    def __post_init__(self) -> None:
        at = 0
        for f in self.fields:
            unit = struct.calcsize("<" + _FORMATS[f.type][0])
            if at % unit:
                raise ValueError(f"{self.name}.{f.name} at offset {at} is not aligned to {unit}")
            at += struct.calcsize("<" + f.format)
        if at % 8:
            raise ValueError(f"{self.name}: {at} bytes are not a multiple of 8")


HEADER = Record(
    "Header",
    "The first 64 bytes of a file; the section table follows it.",
    (
        Field("magic", "u8", 8, "MAGIC"),
        Field("version_major", "u16"),
        Field("version_minor", "u16"),
        Field("section_count", "u32"),
        Field("file_size", "u64", doc="bytes of the whole file"),
        Field("checksum", "u32", doc="CRC-32 (zlib's) of the whole file, this field counted as 0"),
        Field("flags", "u32", doc="0"),
        Field("reserved", "u64", 4, "0"),
    ),
)
SECTION = Record(
    "Section",
    "An entry of the section table.",
    (
        Field("kind", "u32", doc="index in SECTIONS"),
        Field("record_size", "u32", doc="stride; 1 for raw bytes"),
        Field("offset", "u64", doc="from the start of the file, a multiple of 64"),
        Field("count", "u64", doc="records; offset + count * record_size lies in the file"),
    ),
)

# BufferRecord.kind
BUFFER_KINDS = {"arena": 0, "input": 1, "output": 2, "weight": 3, "constant": 4}
# TensorRecord.layout, for people and tools; the strides are what counts.
LAYOUTS = {"row_major": 0, "channels_last": 1}
# OperandRecord.access
ACCESS = {"read": 0, "write": 1}
# RecipeRecord.op: the steps that turn state_dict tensors into a device weight; see
# npu_compiler/program/recipes.py.
RECIPE_OPS = {
    "load": 0,
    "zeros": 1,
    "fold_bn_weight": 2,
    "fold_bn_bias": 3,
    "permute": 4,
    "reshape": 5,
    "pad": 6,
    "cast": 7,
    "full": 8,
    "slice": 9,
    "flip": 10,
    "weight_norm": 11,
    "append": 12,
    "quantize": 13,
    "quantize_scale": 14,
    "add": 15,
}

BUFFER = Record(
    "Buffer",
    "A piece of device memory.",
    (
        Field("name", "str"),
        Field("kind", "u32", doc="BUFFER_KINDS"),
        Field(
            "alias_of", "u32", doc="arena: the buffer whose memory it takes over in place, or NONE"
        ),
        Field("size", "u64", doc="bytes, a multiple of 64"),
        Field(
            "offset", "u64", doc="arena: offset in the arena; constant: offset in CONSTANTS; else 0"
        ),
        Field("first_use", "u32", doc="arena: first dispatch that touches it"),
        Field("last_use", "u32", doc="arena: last dispatch that touches it"),
    ),
)
TENSOR = Record(
    "Tensor",
    "A named tensor as the user sees it: inputs, outputs, weights, constants, intermediates.",
    (
        Field("name", "str"),
        Field("buffer", "u32"),
        Field("dtype", "u8", doc="storage dtype on the device"),
        Field("ir_dtype", "u8", doc="dtype in the IR"),
        Field("rank", "u8"),
        Field("layout", "u8", doc="LAYOUTS"),
        Field("offset", "u64", doc="bytes into the buffer"),
        Field("shape", "u32", MAX_RANK),
        Field("alloc_shape", "u32", MAX_RANK, "with channel padding; padding is zero"),
        Field("strides", "i64", MAX_RANK, "in elements"),
    ),
)
OPERAND = Record(
    "Operand",
    "A view that a dispatch binds, in the kernel record's order and axes.",
    (
        Field("buffer", "u32", doc="NONE: an absent optional operand"),
        Field("tensor", "u32", doc="the tensor it shows, for messages, or NONE"),
        Field("offset", "u64", doc="bytes into the buffer"),
        Field("dtype", "u8"),
        Field("rank", "u8"),
        Field("access", "u8", doc="ACCESS"),
        Field("reserved", "u8", 5, "0"),
        Field("shape", "u32", MAX_RANK),
        Field("strides", "i64", MAX_RANK, "in elements; 0 broadcasts (reads only)"),
    ),
)
DISPATCH = Record(
    "Dispatch",
    "One kernel launch.",
    (
        Field("name", "str", doc="for messages and profiles: the IR nodes it computes"),
        Field("kernel", "u32", doc="kernel record id"),
        Field("operand_first", "u32"),
        Field("operand_count", "u32"),
        Field("field_offset", "u32", doc="of the kernel's field block in FIELDS, a multiple of 4"),
        Field("field_size", "u32"),
        Field("source", "u32", doc="index in SOURCES or NONE"),
        Field("grid", "u32", 3, "must be what the kernel record's launch rule gives"),
        Field("threadgroup", "u32", 3),
        Field("flops", "u64"),
        Field("bytes", "u64", doc="read and written, each operand once"),
    ),
)
SOURCE_TENSOR = Record(
    "SourceTensor",
    "A state_dict tensor that weights are made from.",
    (
        Field("name", "str", doc="state_dict key"),
        Field("dtype", "u8", doc="dtype in the IR; a file may hold another floating dtype"),
        Field("rank", "u8"),
        Field("reserved", "u8", 6, "0"),
        Field("shape", "u32", MAX_RANK),
    ),
)
WEIGHT = Record(
    "Weight",
    "A device weight and the recipe that makes it.",
    (
        Field("tensor", "u32"),
        Field("recipe_first", "u32"),
        Field("recipe_count", "u32"),
        Field("reserved", "u32", doc="0"),
    ),
)
RECIPE = Record(
    "Recipe",
    "One step of a weight recipe.",
    (
        Field("op", "u32", doc="RECIPE_OPS"),
        Field("dtype", "u32", doc="cast: dtype id"),
        Field("sources", "u32", 4, "indices in SOURCE_TENSORS, NONE where absent"),
        Field("arg_count", "u32"),
        Field("reserved", "u32", doc="0"),
        Field("value", "f64", doc="fold_bn_*: epsilon; full: the fill; add: the number"),
        Field(
            "args",
            "u32",
            MAX_RANK,
            "permute, flip, weight_norm: axes; slice: axis, start, step, count; the others: shape",
        ),
    ),
)
ENTRY_POINT = Record(
    "EntryPoint",
    "A function of the program; entry points share weights and constants.",
    (
        Field("name", "str"),
        Field("dispatch_first", "u32"),
        Field("dispatch_count", "u32"),
        Field("input_first", "u32", doc="in IO"),
        Field("input_count", "u32"),
        Field("output_first", "u32", doc="in IO"),
        Field("output_count", "u32"),
        Field("arena_size", "u64", doc="bytes of scratch memory of one run"),
    ),
)
IO = Record(
    "Io",
    "An input or output of an entry point; its tensor starts at offset 0 of such a buffer.",
    (
        Field("name", "str"),
        Field("tensor", "u32"),
        Field(
            "donor",
            "u32",
            doc="output: index in the entry's inputs of the one whose memory it takes, or NONE",
        ),
    ),
)
SOURCE = Record(
    "Source",
    "Where a node comes from.",
    (
        Field("node", "str"),
        Field("op_type", "str"),
        Field("module", "str", doc="module path in the model"),
        Field("file", "str"),
        Field("line", "u32"),
        Field("reserved", "u32", doc="0"),
    ),
)
METADATA = Record("Metadata", "A key and a value.", (Field("key", "str"), Field("value", "str")))

# Section kinds in file order. None: raw bytes. The position is the kind's number: append only.
SECTIONS: dict[str, Record | None] = {
    "STRINGS": None,
    "METADATA": METADATA,
    "BUFFERS": BUFFER,
    "TENSORS": TENSOR,
    "OPERANDS": OPERAND,
    "DISPATCHES": DISPATCH,
    "FIELDS": None,
    "SOURCE_TENSORS": SOURCE_TENSOR,
    "WEIGHTS": WEIGHT,
    "RECIPES": RECIPE,
    "ENTRY_POINTS": ENTRY_POINT,
    "IOS": IO,
    "SOURCES": SOURCE,
    "CONSTANTS": None,
}
ENUMS: dict[str, dict[str, int]] = {
    "BufferKind": BUFFER_KINDS,
    "Layout": LAYOUTS,
    "Access": ACCESS,
    "RecipeOp": RECIPE_OPS,
}
