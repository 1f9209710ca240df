"""What devices keep on disk of what they compile: where it lies, how much it is, and clearing it.

The Metal device keeps the compiled kernels of programs; other devices keep nothing.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from npu_compiler.cache import default_directory

# As cpp/metal/pipeline_archive.cpp names its files; behind a dot while they are written.
_SUFFIX = ".archive"
_KINDS = ("metal",)


@dataclass(frozen=True)
class KernelFile:
    """The compiled kernels of a program."""

    path: Path
    size_bytes: int


def cache_folder(kind: str) -> Path:
    """The folder of a kind of device; there is none until something is kept. Raises CacheError."""
    return default_directory() / kind


def kernel_files() -> list[KernelFile]:
    """What is kept, for all devices. Raises CacheError."""
    found = []
    for kind in _KINDS:
        for path in sorted(cache_folder(kind).glob(f"*{_SUFFIX}")):
            # Another process may have removed it by now.
            with suppress(FileNotFoundError):
                found.append(KernelFile(path, path.stat().st_size))
    return found


def clear_kernel_files() -> list[KernelFile]:
    """Remove it, and what a process that died has left; returns what was there."""
    removed = kernel_files()
    for file in removed:
        file.path.unlink(missing_ok=True)
    for kind in _KINDS:
        for path in cache_folder(kind).glob(f".*{_SUFFIX}.*"):
            path.unlink(missing_ok=True)
    return removed
