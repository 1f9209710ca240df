"""ProgramCache: compiled programs on disk, found again by the content that they were made from."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from npu_compiler.compiled_program import CompiledProgram
from npu_compiler.errors import CacheError, ProgramFormatError
from npu_compiler.program import schema

# The folder to use instead of the user's cache.
ENVIRONMENT_VARIABLE = "NPU_SIM_CACHE_DIR"
DEFAULT_MAX_BYTES = 1 << 30
# Metadata of a stored program: the key that it was stored under.
_KEY = "cache_key"
_SUFFIX = ".npubin"
# Whatever else is in the folder is not the cache's.
_IS_KEY = re.compile("[0-9a-f]{64}")
# A temporary file of this age is what a process that died has left.
_STALE_SECONDS = 3600


class CacheWarning(UserWarning):
    """A cached program cannot be used, or a program cannot be stored; it was compiled anew."""


@dataclass(frozen=True)
class CacheEntry:
    """A stored program. ``last_used`` is in seconds since 1970."""

    key: str
    path: Path
    size_bytes: int
    last_used: float


def default_directory() -> Path:
    """``NPU_SIM_CACHE_DIR``, else ``npu_sim`` in the user's cache folder. Raises CacheError."""
    given = os.environ.get(ENVIRONMENT_VARIABLE)
    if given:
        return Path(given)
    # The XDG rules: a relative path is to be ignored.
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            home = Path.home()
        except RuntimeError:
            raise CacheError(
                f"there is no home directory to keep compiled programs in: set "
                f"{ENVIRONMENT_VARIABLE} to a folder"
            ) from None
        base = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
    return base / "npu_sim"


@cache
def source_digest(package: str) -> str:
    """A digest of all Python files of a package, which is not imported. Code that takes part in
    making a program belongs to what the program is made from.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise CacheError(f"{package!r} is no package whose sources could be read")
    digest = hashlib.sha256()
    for folder in spec.submodule_search_locations:
        for file in sorted(Path(folder).rglob("*.py")):
            content = file.read_bytes()
            digest.update(f"{file.relative_to(folder).as_posix()} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()


class ProgramCache:
    """Programs in a folder (by default the user's cache), at most ``max_bytes`` of them: the ones
    not used for longest go first. Processes may share a folder.

    A file is never believed: a damaged one, or one that is not what its name says, is reported by
    a CacheWarning and replaced. What cannot be stored is reported likewise, and used all the same.
    """

    def __init__(
        self, directory: str | os.PathLike[str] | None = None, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> None:
        self._directory = default_directory() if directory is None else Path(directory)
        self._max_bytes = max_bytes

    @property
    def directory(self) -> Path:
        """The folder; there is none until something is stored."""
        return self._directory

    @property
    def max_bytes(self) -> int:
        """How much is kept."""
        return self._max_bytes

    @staticmethod
    def key(*parts: str | bytes) -> str:
        """The key of what is made from ``parts``, the compiler's sources and the program format."""
        version = f"{schema.VERSION_MAJOR}.{schema.VERSION_MINOR}"
        digest = hashlib.sha256()
        for part in (version, source_digest("npu_compiler"), *parts):
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        return digest.hexdigest()

    def get_or_compile(
        self, parts: Sequence[str | bytes], make: Callable[[], CompiledProgram]
    ) -> CompiledProgram:
        """The program that was stored for these parts, else what ``make`` returns, which is stored.

        ``parts`` must hold all that the program depends on: the model's description, every option,
        versions (or ``source_digest``) of the code that leads to it.
        """
        key = self.key(*parts)
        found = self.load(key)
        if found is not None:
            return found
        program = make()
        self.store(key, program)
        return program

    def load(self, key: str) -> CompiledProgram | None:
        """The program stored under a key, or None."""
        path = self._path(key)
        try:
            program = CompiledProgram.load(path)
            found = program.metadata.pop(_KEY, None)
            if found != key:
                raise ProgramFormatError(f"{path}: holds the program of another key ({found})")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ProgramFormatError, OSError) as error:
            self._warn(f"a cached program cannot be used and is compiled anew: {error}")
            return None
        # Marks it as used; where that is not allowed it only goes earlier.
        with suppress(OSError):
            os.utime(path)
        return program

    def store(self, key: str, program: CompiledProgram) -> None:
        """Keep a program under a key, in place of what is there, and drop what is too much."""
        from npu_compiler.program.writer import save_atomically

        path = self._path(key)
        marked = replace(program, metadata={**program.metadata, _KEY: key}, path=None)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            save_atomically(path, marked.to_bytes())
            self._shrink(keep=path)
        except OSError as error:
            self._warn(
                f"a compiled program cannot be stored in {self._directory}: "
                f"{error.strerror or error}; set {ENVIRONMENT_VARIABLE} to a folder that can be "
                "written"
            )

    def entries(self) -> list[CacheEntry]:
        """What is stored, the last used first."""
        found = []
        for path in self._directory.glob(f"*{_SUFFIX}"):
            if not _IS_KEY.fullmatch(path.stem):
                continue
            # Another process may have removed it by now.
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append(CacheEntry(path.stem, path, status.st_size, status.st_mtime))
        return sorted(found, key=lambda entry: -entry.last_used)

    def clear(self) -> list[CacheEntry]:
        """Remove every program; returns what was there. Other files in the folder stay."""
        removed = self.entries()
        for entry in removed:
            entry.path.unlink(missing_ok=True)
        self._remove_stale(older_than=0)
        return removed

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}{_SUFFIX}"

    def _shrink(self, keep: Path) -> None:
        self._remove_stale(_STALE_SECONDS)
        entries = self.entries()
        total = sum(entry.size_bytes for entry in entries)
        for entry in reversed(entries):
            if total <= self._max_bytes:
                return
            if entry.path != keep:
                entry.path.unlink(missing_ok=True)
                total -= entry.size_bytes

    def _remove_stale(self, older_than: float) -> None:
        """Temporary files that were never put in their place."""
        for path in self._directory.glob(f".*{_SUFFIX}.*"):
            if not _IS_KEY.match(path.name, 1):
                continue
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime >= older_than:
                    path.unlink()

    @staticmethod
    def _warn(message: str) -> None:
        warnings.warn(message, CacheWarning, stacklevel=4)
