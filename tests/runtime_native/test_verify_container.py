"""The file as a whole: header, versions, checksum, section table, every damaged byte."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from npu_compiler.errors import ProgramFormatError
from npu_compiler.program import schema
from npu_compiler.program.checksum import with_checksum
from npu_compiler.program.reader import read_program
from npu_runtime import _native
from npu_runtime.errors import FileError, NpuError, ProgramError, ProgramVersionError
from tests.runtime_native.image_program import image_program
from tests.runtime_native.toy_program import toy_program

GOOD = toy_program().build()
TABLE = schema.HEADER.size


def patched(at: int, data: bytes) -> bytes:
    """The good file with some bytes replaced and a right checksum."""
    return with_checksum(GOOD[:at] + data + GOOD[at + len(data) :])


def header(**values: object) -> bytes:
    """The good file with header fields replaced, and a right checksum unless it is among them."""
    at = 0
    data = bytearray(GOOD)
    for f in schema.HEADER.fields:
        if f.name in values:
            struct.pack_into("<" + f.format, data, at, values[f.name])
        at += struct.calcsize("<" + f.format)
    return bytes(data) if "checksum" in values else with_checksum(bytes(data))


def section(name: str, **values: int) -> bytes:
    """The good file with fields of a section table entry replaced."""
    at = TABLE + list(schema.SECTIONS).index(name) * schema.SECTION.size
    entry = dict(
        zip(
            (f.name for f in schema.SECTION.fields),
            schema.SECTION.format.unpack(GOOD[at : at + schema.SECTION.size]),
            strict=True,
        )
    )
    return patched(at, schema.SECTION.format.pack(*(entry | values).values()))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x00" + GOOD[1:], "not a .npubin file"),
        (header(file_size=len(GOOD) + 64), "truncated"),
        (header(flags=1), "flags and reserved"),
        (header(checksum=1), "the checksum is"),
        (header(section_count=15), "at most 14 kinds"),
        (header(section_count=1 << 31), "at most 14 kinds"),
        (section("BUFFERS", kind=99), "kind 99 is unknown"),
        (section("BUFFERS", kind=1, record_size=16), "METADATA comes twice or out of order"),
        (section("BUFFERS", record_size=48), "BUFFERS has records of 48 bytes"),
        (section("BUFFERS", count=1 << 30), "BUFFERS has 1073741824 records, the limit"),
        (section("STRINGS", count=1 << 60), "STRINGS .* leaves the file"),
        (section("STRINGS", offset=1 << 63), "STRINGS .* leaves the file"),
        (section("OPERANDS", offset=448), "OPERANDS starts at offset 448, but the aligned end"),
        (section("CONSTANTS", count=0), "64 bytes follow the last section"),
        (patched(TABLE + 14 * schema.SECTION.size + 1, b"\x01"), "padding before STRINGS"),
    ],
)  # fmt: skip
def test_container_faults(data: bytes, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        _native.Program.from_bytes(data)


@pytest.mark.parametrize(
    "version",
    [(schema.VERSION_MAJOR + 1, 0), (schema.VERSION_MAJOR, schema.VERSION_MINOR + 1), (1, 1)],
)
def test_other_versions_are_refused_with_both_versions_named(version: tuple[int, int]) -> None:
    builder = toy_program()
    builder.version = version
    ours = rf"{schema.VERSION_MAJOR}\.{schema.VERSION_MINOR}"
    with pytest.raises(ProgramVersionError, match=rf"version {version[0]}\.{version[1]}.*{ours}"):
        _native.Program.from_bytes(builder.build())


def test_a_minor_version_that_changed_fails_the_checksum() -> None:
    builder = toy_program()
    builder.version = (schema.VERSION_MAJOR, schema.VERSION_MINOR + 1)
    newer = bytearray(builder.build())
    # As this reader would accept it.
    struct.pack_into("<H", newer, schema.HEADER.offset("version_minor"), schema.VERSION_MINOR)
    with pytest.raises(ProgramError, match="the checksum is"):
        _native.Program.from_bytes(bytes(newer))
    with pytest.raises(ProgramFormatError, match="the checksum does not match"):
        read_program(bytes(newer))


def test_files_and_bytes_open_alike(tmp_path: Path) -> None:
    path = tmp_path / "toy.npubin"
    path.write_bytes(GOOD)
    for program in (_native.Program.from_file(path), _native.Program.from_bytes(bytearray(GOOD))):
        assert program.file_size == len(GOOD)
        assert program.metadata == {"model_name": "toy ☺"}
        assert [e.name for e in program.entry_points] == ["main", "step"]
        assert program.dispatches[0] == ("linear", "gemm")
    path.write_bytes(GOOD[:100])
    with pytest.raises(ProgramError, match=r"toy\.npubin: header: .*truncated"):
        _native.Program.from_file(path)
    for unreadable in (tmp_path / "none.npubin", tmp_path):
        with pytest.raises(FileError, match="cannot be read"):
            _native.Program.from_file(unreadable)


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.npubin"
    for length in range(len(GOOD)):
        with pytest.raises(ProgramError):
            _native.Program.from_bytes(GOOD[:length])
    for length in (0, 1, 63, 64, 4096, len(GOOD) - 1):
        path.write_bytes(GOOD[:length])
        with pytest.raises(ProgramError):
            _native.Program.from_file(path)


@pytest.mark.parametrize("extra", [1, 64, 100_000])
def test_an_over_long_file_is_an_error(extra: int) -> None:
    with pytest.raises(ProgramError, match="too long"):
        _native.Program.from_bytes(GOOD + bytes(extra))
    grown = bytearray(GOOD + bytes(extra))
    struct.pack_into("<Q", grown, 16, len(grown))
    with pytest.raises(ProgramError, match="bytes follow the last section"):
        _native.Program.from_bytes(with_checksum(bytes(grown)))


def flips(good: bytes) -> Iterator[tuple[int, bytes]]:
    """A good file with each byte changed in turn: one bit, and all bits."""
    for at, byte in enumerate(good):
        for mask in (1 << at % 8, 0xFF):
            yield at, good[:at] + bytes((byte ^ mask,)) + good[at + 1 :]


def test_every_flipped_byte_fails_the_checksum() -> None:
    for at, data in flips(GOOD):
        with pytest.raises(ProgramError):
            _native.Program.from_bytes(data)
            pytest.fail(f"byte {at}")


@pytest.mark.parametrize(
    "good",
    [GOOD, image_program("f32").build(), image_program("bf16").build()],
    ids=["toy", "image-f32", "image-bf16"],
)
def test_every_flipped_byte_with_a_right_checksum_is_an_error_or_runs(good: bytes) -> None:
    devices = [_native.Device(kind) for kind in _native.available_devices()]
    ran = 0
    for _, data in flips(good):
        try:
            program = _native.Program.from_bytes(with_checksum(data))
        except ProgramError:
            continue
        for device in devices:
            try:
                _run_all(program, device)
            except NpuError:
                continue
            ran += 1
    # Names, numbers of sources, constants: some bytes are data.
    assert ran > 100


def _run_all(program: _native.Program, device: _native.Device) -> None:
    executable = device.load(program)
    binding = executable.bind([device.wrap(np.ones(n, np.uint8)) for n in program.weight_sizes])
    for index, entry in enumerate(program.entry_points):
        inputs = [device.allocate(n) for n in entry.input_sizes]
        outputs = [
            device.allocate(n) if donor == schema.NONE else inputs[donor]
            for n, donor in zip(entry.output_sizes, entry.output_donors, strict=True)
        ]
        executable.run(binding, index, inputs, outputs)
