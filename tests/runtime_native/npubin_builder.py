"""Builds .npubin bytes record by record from the schema alone, so that tests can make any fault."""

from __future__ import annotations

import struct
from typing import Any

from npu_compiler.dtypes import BY_SHORT
from npu_compiler.kernels import KERNELS
from npu_compiler.program import schema
from npu_compiler.program.checksum import with_checksum

Record = dict[str, Any]
_ABSENT = {"buffer": schema.NONE, "tensor": schema.NONE}


def align(size: int) -> int:
    """``size`` rounded up to the section alignment."""
    return -(-size // schema.ALIGNMENT) * schema.ALIGNMENT


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements of a row-major tensor."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


class Builder:
    """Sections as lists of dicts (missing fields are zero) or bytearrays; strings are str."""

    def __init__(self) -> None:
        self.sections: dict[str, list[Record]] = {n: [] for n, r in schema.SECTIONS.items() if r}
        self.raw: dict[str, bytearray] = {
            n: bytearray() for n, r in schema.SECTIONS.items() if not r
        }
        self.version = (schema.VERSION_MAJOR, schema.VERSION_MINOR)

    def add(self, section: str, **fields: Any) -> int:
        """Append a record; returns its index."""
        self.sections[section].append(fields)
        return len(self.sections[section]) - 1

    def buffer(self, name: str, kind: str, nbytes: int, **fields: Any) -> int:
        """A buffer whose size is ``nbytes`` rounded up."""
        record = {"alias_of": schema.NONE, **fields}
        return self.add(
            "BUFFERS", name=name, kind=schema.BUFFER_KINDS[kind], size=align(nbytes), **record
        )

    def tensor(self, name: str, buffer: int, shape: tuple[int, ...], dtype: str = "f32") -> int:
        """A row-major tensor at the start of a buffer."""
        ident = BY_SHORT[dtype].id
        return self.add(
            "TENSORS", name=name, buffer=buffer, dtype=ident, ir_dtype=ident, rank=len(shape),
            shape=shape, alloc_shape=shape, strides=contiguous(shape),
        )  # fmt: skip

    def view(
        self, tensor: int, shape: tuple[int, ...], strides: tuple[int, ...] | None = None
    ) -> Record:
        """An operand that shows a tensor with another shape."""
        t = self.sections["TENSORS"][tensor]
        return {
            "buffer": t["buffer"], "tensor": tensor, "dtype": t["dtype"], "rank": len(shape),
            "shape": shape, "strides": strides or contiguous(shape),
        }  # fmt: skip

    def dispatch(
        self, name: str, kernel: str, operands: dict[str, Record], fields: dict[str, Any]
    ) -> int:
        """A dispatch as the kernel record wants it: absent operands, fields, grid, flops."""
        k = KERNELS[kernel]
        shapes = {
            o.name: operands[o.name]["shape"] if o.name in operands else None for o in k.operands
        }
        env = k.environment(shapes, fields)
        x, y, z = k.grid(env)
        first = len(self.sections["OPERANDS"])
        for o in k.operands:
            record = dict(operands.get(o.name, _ABSENT))
            self.add("OPERANDS", access=schema.ACCESS[o.access], **record)
        at = len(self.raw["FIELDS"])
        self.raw["FIELDS"] += k.pack_fields(fields)
        return self.add(
            "DISPATCHES", name=name, kernel=k.id, operand_first=first,
            operand_count=len(k.operands), field_offset=at, field_size=k.field_bytes,
            source=schema.NONE, grid=(x, y, z),
            threadgroup=k.launch.threadgroup, flops=k.flop_count(env),
        )  # fmt: skip

    def build(self) -> bytes:
        """The whole file with a right checksum."""
        strings = bytearray(self.raw["STRINGS"])
        blobs = {
            name: b"".join(_pack(record, r, strings) for r in self.sections[name])
            for name, record in schema.SECTIONS.items()
            if record
        }
        blobs |= {name: bytes(data) for name, data in self.raw.items()}
        blobs["STRINGS"] = bytes(strings)
        at = align(schema.HEADER.size + len(blobs) * schema.SECTION.size)
        table, body = b"", b""
        for kind, (name, record) in enumerate(schema.SECTIONS.items()):
            size = record.size if record else 1
            table += schema.SECTION.format.pack(
                kind, size, at + len(body), len(blobs[name]) // size
            )
            body += blobs[name]
            body += bytes(align(len(body)) - len(body))
        head = bytes(at - schema.HEADER.size - len(table))
        header = schema.HEADER.format.pack(
            *schema.MAGIC, *self.version, len(blobs), at + len(body), 0, 0, *(0,) * 4
        )
        return with_checksum(header + table + head + body)


def _pack(record: schema.Record, values: Record, strings: bytearray) -> bytes:
    unknown = set(values) - {f.name for f in record.fields}
    if unknown:
        raise KeyError(f"{record.name} has no fields {sorted(unknown)}")
    out = b""
    for f in record.fields:
        value = values.get(f.name, "" if f.type == "str" else 0)
        if isinstance(value, str):
            text = value.encode()
            out += struct.pack("<II", len(strings), len(text))
            strings += text
        elif f.type == "str":
            out += struct.pack("<II", *value)
        else:
            items = list(value) if isinstance(value, tuple | list) else [value]
            out += struct.pack("<" + f.format, *items, *(0,) * (f.count - len(items)))
    return out
