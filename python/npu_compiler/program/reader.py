"""Reads .npubin bytes into a CompiledProgram, checking everything that it relies on.

The native reader verifies a program for execution; this one makes sure that what it hands out is
well-formed. A bad file gets one ProgramFormatError that names the section, the record and the
value.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from npu_compiler.compiled_program import (
    BufferAllocation,
    CompiledProgram,
    EntryPoint,
    KernelCall,
    OperandView,
    SourceLocation,
    SourceTensor,
    TensorSpec,
)
from npu_compiler.dtypes import BY_ID
from npu_compiler.errors import ProgramFormatError, RecipeError
from npu_compiler.kernels import KERNELS_BY_ID
from npu_compiler.program import schema
from npu_compiler.program.recipes import SOURCE_ROLES, Recipe, RecipeStep
from npu_compiler.program.schema import MAX_RANK, NONE, SECTIONS, Record
from npu_compiler.program.writer import COMPUTE_DTYPE, MODEL_NAME, WEIGHT_NAME_MAPPING

Row = dict[str, Any]


def _names(table: dict[str, int]) -> dict[int, str]:
    return {number: name for name, number in table.items()}


_BUFFER_KINDS = _names(schema.BUFFER_KINDS)
_LAYOUTS = _names(schema.LAYOUTS)
_ACCESS = _names(schema.ACCESS)
_RECIPE_OPS = _names(schema.RECIPE_OPS)


@dataclass(frozen=True, slots=True)
class _Section:
    record_size: int
    offset: int
    count: int


class _Reader:
    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.where = where
        self.sections: dict[str, _Section] = {}
        self._header()
        self.strings = self._raw("STRINGS")

    def fail(self, message: str) -> ProgramFormatError:
        return ProgramFormatError(f"{self.where}: {message}")

    def _header(self) -> None:
        data = self.data
        size = schema.HEADER.size
        if len(data) < size:
            raise self.fail(f"{len(data)} bytes are too few for a .npubin header ({size})")
        fields = schema.HEADER.format.unpack_from(data)
        magic = bytes(fields[:8])
        major, minor, section_count, file_size, checksum = fields[8:13]
        if magic != schema.MAGIC:
            raise self.fail("this is not a .npubin file: it starts with " + repr(magic))
        if major != schema.VERSION_MAJOR or minor > schema.VERSION_MINOR:
            raise self.fail(
                f"format version {major}.{minor} cannot be read by this version, which reads "
                f"{schema.VERSION_MAJOR}.0 to {schema.VERSION_MAJOR}.{schema.VERSION_MINOR}; "
                "compile the model again"
            )
        if any(fields[13:]):
            raise self.fail(f"flags and reserved fields of the header must be 0, are {fields[13:]}")
        if file_size != len(data):
            raise self.fail(f"the header says {file_size} bytes, the file has {len(data)}")
        if zlib.crc32(memoryview(data)[size:]) != checksum:
            raise self.fail("the checksum does not match: the file is damaged")
        self._table(section_count)

    def _table(self, count: int) -> None:
        start = schema.HEADER.size
        step = schema.SECTION.size
        if count != len(SECTIONS) or start + count * step > len(self.data):
            raise self.fail(f"the section table has {count} entries, {len(SECTIONS)} are needed")
        for kind, name in enumerate(SECTIONS):
            found = schema.SECTION.format.unpack_from(self.data, start + kind * step)
            stored, record_size, offset, records = found
            record = SECTIONS[name]
            smallest = 1 if record is None else record.size
            if stored != kind or record_size < smallest or (record is None and record_size != 1):
                raise self.fail(
                    f"section {name}: kind {stored} with records of {record_size} bytes"
                )
            if record is not None and records > schema.MAX_RECORDS:
                raise self.fail(f"section {name}: {records} records are too many")
            if offset % schema.ALIGNMENT or offset + records * record_size > len(self.data):
                raise self.fail(
                    f"section {name}: {records} records of {record_size} bytes at offset {offset} "
                    f"do not lie in the file's {len(self.data)} bytes"
                )
            self.sections[name] = _Section(record_size, offset, records)

    def _raw(self, name: str) -> bytes:
        section = self.sections[name]
        return self.data[section.offset : section.offset + section.count]

    def rows(self, name: str) -> list[Row]:
        """Every record of a section, fields by name; strings are decoded, arrays are lists."""
        record = SECTIONS[name]
        if record is None:
            raise TypeError(f"{name} holds raw bytes")
        section = self.sections[name]
        rows = []
        for i in range(section.count):
            at = section.offset + i * section.record_size
            rows.append(self._row(record, record.format.unpack_from(self.data, at), name, i))
        return rows

    def _row(self, record: Record, values: Sequence[Any], section: str, index: int) -> Row:
        row: Row = {}
        at = 0
        for field in record.fields:
            if field.type == "str":
                row[field.name] = self._text(values[at], values[at + 1], section, index)
                at += 2
            elif field.count > 1:
                row[field.name] = list(values[at : at + field.count])
                at += field.count
            else:
                row[field.name] = values[at]
                at += 1
        return row

    def _text(self, offset: int, length: int, section: str, index: int) -> str:
        if offset + length > len(self.strings):
            raise self.fail(f"{section}[{index}]: a string lies outside of the string table")
        try:
            return self.strings[offset : offset + length].decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise self.fail(f"{section}[{index}]: a string is not UTF-8: {error}") from None

    def pick(self, table: dict[int, Any], key: int, where: str) -> Any:
        """``table[key]``."""
        if key not in table:
            raise self.fail(f"{where} is {key}; known are {sorted(table)}")
        return table[key]

    def dtype(self, number: int, where: str) -> str:
        """The name of a dtype id."""
        name: str = self.pick(BY_ID, number, f"{where}: dtype").name
        return name

    def below(self, value: int, limit: int, where: str) -> int:
        """``value``, an index."""
        if value >= limit:
            raise self.fail(f"{where} is {value}, but there are only {limit}")
        return value

    def optional(self, value: int, limit: int, where: str) -> int | None:
        """An index or None."""
        return None if value == NONE else self.below(value, limit, where)

    def span(self, first: int, count: int, limit: int, where: str) -> range:
        """A range of records."""
        if first + count > limit:
            raise self.fail(f"{where}: {first} + {count} exceeds {limit} records")
        return range(first, first + count)

    def ranked(self, values: Sequence[int], rank: int, where: str) -> tuple[int, ...]:
        """The first ``rank`` values of an array field."""
        if rank > MAX_RANK:
            raise self.fail(f"{where}: rank {rank} exceeds {MAX_RANK}")
        return tuple(values[:rank])


def read_program(data: bytes, where: str = ".npubin") -> CompiledProgram:
    """The program in ``data``; ``where`` names the file in errors. Raises ProgramFormatError."""
    r = _Reader(data, where)
    metadata = {row["key"]: row["value"] for row in r.rows("METADATA")}
    buffers = _buffers(r)
    tensors = _tensors(r, len(buffers), buffers)
    sources = _source_tensors(r)
    weights, recipes = _weights(r, sources, len(tensors))
    calls = _calls(r, len(buffers), len(tensors))
    entries = _entries(r, len(calls), len(tensors))
    if not entries:
        raise r.fail("ENTRY_POINTS: the program has no entry point")
    mapping = _mapping(r, metadata.pop(WEIGHT_NAME_MAPPING, "{}"))
    return CompiledProgram(
        model_name=metadata.pop(MODEL_NAME, ""),
        compute_dtype=metadata.pop(COMPUTE_DTYPE, ""),
        tensors=tensors,
        buffer_allocations=_described(buffers, tensors),
        kernel_calls=calls,
        weight_tensors=weights,
        weight_recipes=recipes,
        source_tensors=sources,
        entry_points=entries,
        constants=r.data[
            r.sections["CONSTANTS"].offset : r.sections["CONSTANTS"].offset
            + r.sections["CONSTANTS"].count
        ],
        metadata=metadata,
        weight_name_mapping=mapping,
    )


def _mapping(r: _Reader, text: str) -> dict[str, str]:
    try:
        mapping = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise r.fail(f"METADATA: {WEIGHT_NAME_MAPPING} is not JSON: {error}") from None
    if not isinstance(mapping, dict) or not all(isinstance(v, str) for v in mapping.values()):
        raise r.fail(f"METADATA: {WEIGHT_NAME_MAPPING} does not map names to names")
    return mapping


def _buffers(r: _Reader) -> list[BufferAllocation]:
    rows = r.rows("BUFFERS")
    found = []
    for i, row in enumerate(rows):
        where = f"BUFFERS[{i}]"
        kind = r.pick(_BUFFER_KINDS, row["kind"], f"{where}: kind")
        limit = r.sections["CONSTANTS"].count if kind == "constant" else schema.MAX_ARENA_BYTES
        if row["size"] > limit or row["offset"] > limit - row["size"]:
            raise r.fail(f"{where}: {row['size']} bytes at {row['offset']} exceed {limit}")
        found.append(
            BufferAllocation(
                row["name"],
                kind,
                row["size"],
                row["offset"],
                r.optional(row["alias_of"], len(rows), f"{where}: alias_of"),
                row["first_use"],
                row["last_use"],
            )
        )
    return found


def _tensors(
    r: _Reader, buffer_count: int, buffers: Sequence[BufferAllocation]
) -> tuple[TensorSpec, ...]:
    found = []
    for i, row in enumerate(r.rows("TENSORS")):
        where = f"TENSORS[{i}]"
        rank = row["rank"]
        spec = TensorSpec(
            name=row["name"],
            shape=r.ranked(row["shape"], rank, where),
            dtype=r.dtype(row["ir_dtype"], where),
            alloc_shape=r.ranked(row["alloc_shape"], rank, where),
            storage_dtype=r.dtype(row["dtype"], where),
            layout=r.pick(_LAYOUTS, row["layout"], f"{where}: layout"),
            strides=r.ranked(row["strides"], rank, where),
            buffer=r.below(row["buffer"], buffer_count, f"{where}: buffer"),
            offset=row["offset"],
        )
        for n, m in zip(spec.shape, spec.alloc_shape, strict=True):
            if n > m or m > schema.MAX_DIM:
                raise r.fail(f"{where}: shape {spec.shape} exceeds alloc_shape {spec.alloc_shape}")
        if spec.layout == "channels_last" and rank != 4:
            raise r.fail(f"{where}: a channels_last tensor has rank 4, not {rank}")
        if spec.offset + spec.size_bytes > buffers[spec.buffer].size_bytes:
            raise r.fail(f"{where} ({spec.name!r}) does not fit into its buffer")
        found.append(spec)
    return tuple(found)


def _described(
    buffers: Sequence[BufferAllocation], tensors: Sequence[TensorSpec]
) -> tuple[BufferAllocation, ...]:
    """Buffers with the shape and dtype of the tensor that each was made for."""
    owners: dict[int, TensorSpec] = {}
    for tensor in tensors:
        owners.setdefault(tensor.buffer, tensor)
    found = []
    for i, b in enumerate(buffers):
        t = owners.get(i)
        shape, alloc, dtype = (
            ((), (), "uint8")
            if t is None
            else (
                t.shape,
                t.alloc_shape,
                t.storage_dtype,
            )
        )
        found.append(
            BufferAllocation(
                b.name,
                b.kind,
                b.size_bytes,
                b.offset,
                b.alias_of,
                b.first_use,
                b.last_use,
                shape,
                alloc,
                dtype,
            )
        )
    return tuple(found)


def _source_tensors(r: _Reader) -> tuple[SourceTensor, ...]:
    return tuple(
        SourceTensor(
            row["name"],
            r.ranked(row["shape"], row["rank"], f"SOURCE_TENSORS[{i}]"),
            r.dtype(row["dtype"], f"SOURCE_TENSORS[{i}]"),
        )
        for i, row in enumerate(r.rows("SOURCE_TENSORS"))
    )


def _weights(
    r: _Reader, sources: Sequence[SourceTensor], tensor_count: int
) -> tuple[tuple[int, ...], tuple[Recipe, ...]]:
    steps = [_step(r, row, f"RECIPES[{i}]", sources) for i, row in enumerate(r.rows("RECIPES"))]
    tensors, recipes = [], []
    for i, row in enumerate(r.rows("WEIGHTS")):
        where = f"WEIGHTS[{i}]"
        tensors.append(r.below(row["tensor"], tensor_count, f"{where}: tensor"))
        span = r.span(row["recipe_first"], row["recipe_count"], len(steps), where)
        recipes.append(tuple(steps[k] for k in span))
    return tuple(tensors), tuple(recipes)


def _step(r: _Reader, row: Row, where: str, sources: Sequence[SourceTensor]) -> RecipeStep:
    op = r.pick(_RECIPE_OPS, row["op"], f"{where}: op")
    indices = [r.optional(s, len(sources), f"{where}: source") for s in row["sources"]]
    names = [None if s is None else sources[s].name for s in indices]
    used = len(SOURCE_ROLES.get(op, ()))
    if any(name is not None for name in names[used:]):
        raise r.fail(f"{where}: {op} takes {used} sources")
    dtype = r.dtype(row["dtype"], where) if op == "cast" else None
    args = r.ranked(row["args"], row["arg_count"], where)
    try:
        return RecipeStep(op, tuple(names[:used]), args, row["value"], dtype)
    except RecipeError as error:
        raise r.fail(f"{where}: {error}") from None


def _calls(r: _Reader, buffer_count: int, tensor_count: int) -> tuple[KernelCall, ...]:
    operands = r.rows("OPERANDS")
    locations = [
        SourceLocation(row["node"], row["op_type"], row["module"], row["file"], row["line"])
        for row in r.rows("SOURCES")
    ]
    fields = r.sections["FIELDS"]
    calls = []
    for i, row in enumerate(r.rows("DISPATCHES")):
        where = f"DISPATCHES[{i}] ({row['name']!r})"
        kernel = r.pick(KERNELS_BY_ID, row["kernel"], f"{where}: kernel")
        span = r.span(row["operand_first"], row["operand_count"], len(operands), where)
        if len(span) != len(kernel.operands) or row["field_size"] != kernel.field_bytes:
            raise r.fail(
                f"{where}: {len(span)} operands and {row['field_size']} bytes of fields do not fit "
                f"{kernel.name}"
            )
        r.span(row["field_offset"], row["field_size"], fields.count, f"{where}: fields")
        start = fields.offset + row["field_offset"]
        bound = []
        for operand, k in zip(kernel.operands, span, strict=True):
            place = f"OPERANDS[{k}]"
            bound.append(_operand(r, operands[k], operand.name, place, buffer_count, tensor_count))
        source = r.optional(row["source"], len(locations), f"{where}: source")
        calls.append(
            KernelCall(
                name=row["name"],
                kernel_name=kernel.name,
                operands=tuple(bound),
                params=kernel.unpack_fields(r.data[start : start + row["field_size"]]),
                grid=(row["grid"][0], row["grid"][1], row["grid"][2]),
                threadgroup=(row["threadgroup"][0], row["threadgroup"][1], row["threadgroup"][2]),
                flops=row["flops"],
                bytes=row["bytes"],
                source=None if source is None else locations[source],
            )
        )
    return tuple(calls)


def _operand(
    r: _Reader, row: Row, name: str, where: str, buffer_count: int, tensor_count: int
) -> OperandView | None:
    if row["buffer"] == NONE:
        return None
    return OperandView(
        name=name,
        buffer=r.below(row["buffer"], buffer_count, f"{where}: buffer"),
        offset=row["offset"],
        dtype=r.dtype(row["dtype"], where),
        shape=r.ranked(row["shape"], row["rank"], where),
        strides=r.ranked(row["strides"], row["rank"], where),
        access=r.pick(_ACCESS, row["access"], f"{where}: access"),
        tensor=r.optional(row["tensor"], tensor_count, f"{where}: tensor"),
    )


def _entries(r: _Reader, call_count: int, tensor_count: int) -> tuple[EntryPoint, ...]:
    ios = r.rows("IOS")
    entries = []
    for i, row in enumerate(r.rows("ENTRY_POINTS")):
        where = f"ENTRY_POINTS[{i}]"
        r.span(row["dispatch_first"], row["dispatch_count"], call_count, where)

        def named(first: int, count: int, where: str = where) -> tuple[tuple[str, int], ...]:
            found = []
            for k in r.span(first, count, len(ios), where):
                tensor = r.below(ios[k]["tensor"], tensor_count, f"IOS[{k}]: tensor")
                found.append((ios[k]["name"], tensor))
            return tuple(found)

        entries.append(
            EntryPoint(
                row["name"],
                row["dispatch_first"],
                row["dispatch_count"],
                named(row["input_first"], row["input_count"]),
                named(row["output_first"], row["output_count"]),
                row["arena_size"],
            )
        )
    return tuple(entries)
