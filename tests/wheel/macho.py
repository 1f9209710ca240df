"""Reads what a Mach-O file of arm64 says of itself: kind, oldest macOS, libraries, symbols."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

MAGIC, ARM64, BUNDLE, PLATFORM_MACOS = 0xFEEDFACF, 0x0100000C, 8, 1
LOAD_DYLIB, LOAD_WEAK_DYLIB, SYMTAB, BUILD_VERSION, CODE_SIGNATURE = (
    *(0xC, 0x80000018, 0x2, 0x32, 0x1D),
)
# Library ordinal of a symbol that the process that loads the bundle has to provide.
DYNAMIC_LOOKUP = 254


@dataclass(frozen=True)
class Import:
    """A symbol that another library provides; ``library`` is None where the process does."""

    name: str
    library: str | None
    weak: bool


@dataclass
class MachO:
    """The parts of a file that the tests look at. ``minimum_os`` is (major, minor)."""

    file_type: int
    platform: int = 0
    minimum_os: tuple[int, int] = (0, 0)
    signed: bool = False
    libraries: list[str] = field(default_factory=list)
    exports: list[str] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)


def text(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode()


def read(data: bytes) -> MachO:
    """The file's description. Raises ValueError where it is no thin arm64 Mach-O file."""
    magic, cpu, _, file_type, command_count = struct.unpack_from("<5I", data)
    if (magic, cpu) != (MAGIC, ARM64):
        raise ValueError(f"not a Mach-O file of arm64: magic {magic:#x}, processor {cpu:#x}")
    file = MachO(file_type)
    at, symbols = 32, (0, 0, 0, 0)
    for _ in range(command_count):
        command, size = struct.unpack_from("<2I", data, at)
        if command in (LOAD_DYLIB, LOAD_WEAK_DYLIB):
            file.libraries.append(text(data, at + struct.unpack_from("<I", data, at + 8)[0]))
        elif command == BUILD_VERSION:
            file.platform, version = struct.unpack_from("<2I", data, at + 8)
            file.minimum_os = (version >> 16, version >> 8 & 255)
        elif command == SYMTAB:
            symbols = struct.unpack_from("<4I", data, at + 8)
        file.signed |= command == CODE_SIGNATURE
        at += size
    table, count, strings, _ = symbols
    for i in range(count):
        name, kind, _, description, _ = struct.unpack_from("<IBBHQ", data, table + 16 * i)
        if kind & 1 and not kind & 0x10 and kind & 0x0E:
            file.exports.append(text(data, strings + name))
        elif kind & 1 and not kind & 0x0E:
            ordinal = description >> 8
            library = None if ordinal == DYNAMIC_LOOKUP else file.libraries[ordinal - 1]
            file.imports.append(
                Import(text(data, strings + name), library, bool(description & 0x40))
            )
    return file
