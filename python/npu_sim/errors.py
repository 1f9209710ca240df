"""Errors of the front door; what the runtime and the compiler raise passes through unchanged."""

from __future__ import annotations

from npu_compiler.errors import NpuError


class NpuSimError(NpuError):
    """Base of npu_sim's own errors."""


class MissingDependencyError(NpuSimError, ImportError):
    """An optional library is not installed; the message says how to install it."""


class UsageError(NpuSimError, ValueError):
    """An argument does not make sense; the message names it and what is expected."""
