"""The container of a .npubin: header, section table, strings and records, bounds-checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from typing import Any

from npu_compiler.dtypes import BY_ID
from npu_compiler.errors import ProgramFormatError
from npu_compiler.program import schema
from npu_compiler.program.checksum import file_checksum
from npu_compiler.program.schema import MAX_RANK, NONE, SECTIONS, Record

Row = dict[str, Any]
_DTYPE_NAMES = {number: dtype.name for number, dtype in BY_ID.items()}


@dataclass(frozen=True, slots=True)
class Section:
    record_size: int
    offset: int
    count: int


def _one(places: list[int]) -> tuple[int, int]:
    return (places[0], places[0] + 1) if places else (0, 0)


@dataclass(frozen=True, slots=True)
class _Fields:
    """Where a record's fields lie among its unpacked values."""

    scalars: tuple[str, ...]
    pick_scalars: Callable[[Sequence[Any]], Sequence[Any]]
    arrays: tuple[tuple[str, int, int], ...]
    strings: tuple[tuple[str, int], ...]

    @classmethod
    @cache
    def of(cls, record: Record) -> _Fields:
        scalars, places, arrays, strings = [], [], [], []
        at = 0
        for field in record.fields:
            if field.type == "str":
                strings.append((field.name, at))
                at += 2
            elif field.count > 1:
                arrays.append((field.name, at, at + field.count))
                at += field.count
            else:
                scalars.append(field.name)
                places.append(at)
                at += 1
        # A slice where itemgetter would give a bare value or take no index at all.
        pick = itemgetter(*places) if len(places) > 1 else itemgetter(slice(*_one(places)))
        return cls(tuple(scalars), pick, tuple(arrays), tuple(strings))


class Container:
    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.where = where
        self.sections: dict[str, Section] = {}
        self._header()
        self.strings = self._raw("STRINGS")
        self._texts: dict[tuple[int, int], str] = {}

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
        if file_checksum(data) != checksum:
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
            self.sections[name] = Section(record_size, offset, records)

    def _raw(self, name: str) -> bytes:
        section = self.sections[name]
        return self.data[section.offset : section.offset + section.count]

    def rows(self, name: str) -> list[Row]:
        """Every record of a section, fields by name; strings are decoded, arrays are tuples."""
        record = SECTIONS[name]
        if record is None:
            raise TypeError(f"{name} holds raw bytes")
        section = self.sections[name]
        fields = _Fields.of(record)
        rows = []
        for i in range(section.count):
            at = section.offset + i * section.record_size
            values = record.format.unpack_from(self.data, at)
            row: Row = dict(zip(fields.scalars, fields.pick_scalars(values), strict=True))
            for field, first, last in fields.arrays:
                row[field] = values[first:last]
            for field, first in fields.strings:
                row[field] = self._text(values[first], values[first + 1], name, i)
            rows.append(row)
        return rows

    def _text(self, offset: int, length: int, section: str, index: int) -> str:
        text = self._texts.get((offset, length))
        if text is not None:
            return text
        if offset + length > len(self.strings):
            raise self.fail(f"{section}[{index}]: a string lies outside of the string table")
        try:
            text = self.strings[offset : offset + length].decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.fail(f"{section}[{index}]: a string is not UTF-8: {error}") from None
        self._texts[offset, length] = text
        return text

    def pick(self, table: dict[int, Any], key: int, where: str) -> Any:
        """``table[key]``."""
        try:
            return table[key]
        except KeyError:
            raise self.fail(f"{where} is {key}; known are {sorted(table)}") from None

    def dtype(self, number: int, where: str) -> str:
        """The name of a dtype id."""
        try:
            return _DTYPE_NAMES[number]
        except KeyError:
            raise self.fail(f"{where}: dtype is {number}; known are {sorted(BY_ID)}") from None

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

    def ranked(self, values: tuple[int, ...], rank: int, where: str) -> tuple[int, ...]:
        """The first ``rank`` values of an array field."""
        if rank > MAX_RANK:
            raise self.fail(f"{where}: rank {rank} exceeds {MAX_RANK}")
        return values[:rank]
