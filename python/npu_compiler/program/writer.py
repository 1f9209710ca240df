"""Writes a CompiledProgram as .npubin bytes; every layout comes from schema.py."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import tempfile
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path

from npu_compiler.compiled_program import CompiledProgram, KernelCall, OperandView
from npu_compiler.dtypes import DTYPES
from npu_compiler.kernels import KERNELS
from npu_compiler.program import schema
from npu_compiler.program.checksum import with_checksum
from npu_compiler.program.schema import MAX_RANK, NONE, SECTIONS

# Metadata keys that CompiledProgram keeps as fields.
MODEL_NAME = "model_name"
COMPUTE_DTYPE = "compute_dtype"
WEIGHT_NAME_MAPPING = "weight_name_mapping"


class _Strings:
    """The string table; equal strings are stored once."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._known: dict[str, tuple[int, int]] = {}

    def add(self, text: str) -> tuple[int, int]:
        if text not in self._known:
            encoded = text.encode("utf-8")
            self._known[text] = (len(self.data), len(encoded))
            self.data += encoded
        return self._known[text]


def _ranked(values: Sequence[int]) -> list[int]:
    return [*values, *([0] * (MAX_RANK - len(values)))]


def _index(value: int | None) -> int:
    return NONE if value is None else value


class _Writer:
    def __init__(self, program: CompiledProgram) -> None:
        self.program = program
        self.strings = _Strings()
        self.records: dict[str, bytearray] = {name: bytearray() for name in SECTIONS}
        self.counts: dict[str, int] = dict.fromkeys(SECTIONS, 0)

    def put(self, section: str, values: Iterable[int | float | tuple[int, int]]) -> int:
        """Append a record; returns its index. String fields are given as (offset, length)."""
        record = SECTIONS[section]
        if record is None:
            raise TypeError(f"{section} holds raw bytes")
        flat: list[int | float] = []
        for value in values:
            if isinstance(value, tuple):
                flat += value
            else:
                flat.append(value)
        self.records[section] += record.format.pack(*flat)
        self.counts[section] += 1
        return self.counts[section] - 1

    def write(self) -> bytes:
        program = self.program
        text = self.strings.add
        metadata = {
            MODEL_NAME: program.model_name,
            COMPUTE_DTYPE: program.compute_dtype,
            WEIGHT_NAME_MAPPING: json.dumps(program.weight_name_mapping),
            **program.metadata,
        }
        for key, value in metadata.items():
            self.put("METADATA", [text(key), text(value)])
        for b in program.buffer_allocations:
            kind = schema.BUFFER_KINDS[b.kind]
            fields = (kind, _index(b.alias_of), b.size_bytes, b.offset, b.first_use, b.last_use)
            self.put("BUFFERS", [text(b.name), *fields])
        for t in program.tensors:
            ids = (DTYPES[t.storage_dtype].id, DTYPES[t.dtype].id, len(t.shape))
            shapes = [*_ranked(t.shape), *_ranked(t.alloc_shape), *_ranked(t.strides)]
            layout = schema.LAYOUTS[t.layout]
            self.put("TENSORS", [text(t.name), t.buffer, *ids, layout, t.offset, *shapes])
        for call in program.kernel_calls:
            self._dispatch(call)
        self._weights()
        for entry in program.entry_points:
            first = [self._ios(entry.inputs), self._ios(entry.outputs, entry.donors)]
            counts = [len(entry.inputs), len(entry.outputs)]
            ranges = [first[0], counts[0], first[1], counts[1]]
            span = (entry.dispatch_first, entry.dispatch_count)
            self.put("ENTRY_POINTS", [text(entry.name), *span, *ranges, entry.arena_size])
        self.records["CONSTANTS"] += program.constants
        self.records["STRINGS"] += self.strings.data
        return self._assemble()

    def _ios(self, ios: Sequence[tuple[str, int]], donors: Sequence[int | None] = ()) -> int:
        first = self.counts["IOS"]
        for (name, tensor), donor in zip_longest(ios, donors):
            self.put("IOS", [self.strings.add(name), tensor, _index(donor)])
        return first

    def _dispatch(self, call: KernelCall) -> None:
        kernel = KERNELS[call.kernel_name]
        first = self.counts["OPERANDS"]
        for operand, declared in zip(call.operands, kernel.operands, strict=True):
            self._operand(operand, declared.access)
        block = kernel.pack_fields(call.params)
        offset = len(self.records["FIELDS"])
        self.records["FIELDS"] += block
        source = NONE
        if call.source is not None:
            s = call.source
            texts = [self.strings.add(t) for t in (s.node, s.op_type, s.module, s.file)]
            source = self.put("SOURCES", [*texts, s.line, 0])
        self.put(
            "DISPATCHES",
            [
                self.strings.add(call.name),
                kernel.id,
                first,
                len(call.operands),
                offset,
                len(block),
                source,
                *call.grid,
                *call.threadgroup,
                call.flops,
                call.bytes,
            ],
        )

    def _operand(self, operand: OperandView | None, access: str) -> None:
        if operand is None:
            zeros = [0] * (2 * MAX_RANK)
            ids = (0, 0, schema.ACCESS[access])
            self.put("OPERANDS", [NONE, NONE, 0, *ids, *([0] * 5), *zeros])
            return
        o = operand
        ids = (DTYPES[o.dtype].id, len(o.shape), schema.ACCESS[o.access])
        views = [*_ranked(o.shape), *_ranked(o.strides)]
        self.put("OPERANDS", [o.buffer, _index(o.tensor), o.offset, *ids, *([0] * 5), *views])

    def _weights(self) -> None:
        program = self.program
        index = {s.name: i for i, s in enumerate(program.source_tensors)}
        for s in program.source_tensors:
            ids = (DTYPES[s.dtype].id, len(s.shape))
            self.put(
                "SOURCE_TENSORS", [self.strings.add(s.name), *ids, *([0] * 6), *_ranked(s.shape)]
            )
        for tensor, recipe in zip(program.weight_tensors, program.weight_recipes, strict=True):
            self.put("WEIGHTS", [tensor, self.counts["RECIPES"], len(recipe), 0])
            for step in recipe:
                given = [NONE if s is None else index[s] for s in step.sources]
                given += [NONE] * (4 - len(given))
                dtype = 0 if step.dtype is None else DTYPES[step.dtype].id
                head = (schema.RECIPE_OPS[step.op], dtype, *given, len(step.args), 0)
                self.put("RECIPES", [*head, step.value, *_ranked(step.args)])

    def _assemble(self) -> bytes:
        table_size = schema.SECTION.size * len(SECTIONS)
        at = _aligned(schema.HEADER.size + table_size)
        table = bytearray()
        body = bytearray()
        start = at
        for kind, (name, record) in enumerate(SECTIONS.items()):
            data = self.records[name]
            size = 1 if record is None else record.size
            count = len(data) if record is None else self.counts[name]
            table += schema.SECTION.format.pack(kind, size, at, count)
            body += data.ljust(_aligned(len(data)), b"\0")
            at = start + len(body)
        rest = bytes(table).ljust(start - schema.HEADER.size, b"\0") + bytes(body)
        header = schema.HEADER.format.pack(
            *schema.MAGIC,
            schema.VERSION_MAJOR,
            schema.VERSION_MINOR,
            len(SECTIONS),
            schema.HEADER.size + len(rest),
            0,
            0,
            *([0] * 4),
        )
        return with_checksum(header + rest)


def _aligned(size: int) -> int:
    return -(-size // schema.ALIGNMENT) * schema.ALIGNMENT


def write_program(program: CompiledProgram) -> bytes:
    """The .npubin bytes of a program; the same program always gives the same bytes."""
    try:
        return _Writer(program).write()
    except struct.error as error:
        raise ValueError(f"a field of the program does not fit its record: {error}") from error


def save_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to a temporary file beside ``path`` and put it in its place."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
