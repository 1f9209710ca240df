"""Errors of the runtime: one class per error code of the native module, all of them ``NpuError``.

Every message names the tensor, op or file, the rule, the value found and the way out. Classes
that Python's own hierarchy has a word for are also that (``ArgumentError`` is a ``ValueError``),
so callers may catch either.
"""

from __future__ import annotations

from npu_compiler.errors import NpuError

__all__ = [
    "ArgumentError",
    "DeviceError",
    "DeviceUnavailableError",
    "FileError",
    "InternalError",
    "MissingDependencyError",
    "NpuError",
    "OutOfMemoryError",
    "ProgramError",
    "ProgramVersionError",
    "SegmentError",
    "WeightError",
]


class ProgramError(NpuError):
    """A ``.npubin`` is damaged or breaks a rule of the format."""


class ProgramVersionError(ProgramError):
    """A ``.npubin`` is of a version that this reader cannot open."""


class ArgumentError(NpuError, ValueError):
    """An input, weight or name that a caller gave does not fit."""


class OutOfMemoryError(NpuError, MemoryError):
    """The device cannot give the memory asked for."""


class DeviceUnavailableError(NpuError):
    """No such device on this machine."""


class DeviceError(NpuError):
    """The device failed while it ran."""


class FileError(NpuError, OSError):
    """A file cannot be read, or is not what it should be."""


class InternalError(NpuError):
    """A rule of npu_sim's own was broken: please report it."""


class WeightError(ArgumentError):
    """Weights do not fit the program: missing, unknown, or of the wrong shape or dtype."""


class SegmentError(NpuError):
    """A CPU segment of a partitioned model failed; the message names the segment and the node."""


class MissingDependencyError(NpuError, ImportError):
    """A library that is needed here is not installed; the message says how to install it."""
