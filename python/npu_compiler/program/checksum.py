"""The checksum in a .npubin's header, which covers the header too."""

from __future__ import annotations

import zlib

from npu_compiler.program.schema import HEADER

_AT = HEADER.offset("checksum")
_BYTES = 4


def file_checksum(data: bytes) -> int:
    """CRC-32 of a whole file, in which the checksum itself counts as 0."""
    crc = zlib.crc32(bytes(_BYTES), zlib.crc32(data[:_AT]))
    return zlib.crc32(memoryview(data)[_AT + _BYTES :], crc)


def with_checksum(data: bytes) -> bytes:
    """The file with its header's checksum made right."""
    return data[:_AT] + file_checksum(data).to_bytes(_BYTES, "little") + data[_AT + _BYTES :]
