"""The compiler's errors. Each message names the node, tensor or file, the rule, the value found and
the way out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from npu_compiler.constraints import Violation


class NpuError(Exception):
    """Base of everything that npu_compiler, npu_runtime and npu_sim raise on purpose."""


class CompilerError(NpuError):
    """Base of everything that npu_compiler raises on purpose."""


class IRError(CompilerError):
    """The IR is malformed: a missing field, an unknown dtype, a dangling producer."""


class IRFileNotFoundError(IRError, FileNotFoundError):
    """The IR file does not exist."""


class CompileOptionError(CompilerError, ValueError):
    """An argument of ``compile`` or a field of ``TargetConfig`` has no meaning."""


class ConstraintError(CompilerError):
    """Nodes break a rule of the NPU; ``violations`` lists them all."""

    def __init__(self, message: str, violations: Sequence[Violation] = ()) -> None:
        super().__init__(message)
        self.violations = tuple(violations)


class UnsupportedOpError(ConstraintError):
    """Nodes whose operator the NPU does not have; ``violations`` lists them all."""


class PartitionError(CompilerError):
    """A model cannot be split: the callback raised, or a segment does not compile."""


class GraphCheckError(CompilerError):
    """A pass left the graph in a state that breaks its invariants: a bug of the compiler."""


class LinkError(CompilerError):
    """Programs cannot be entry points of one program."""


class CacheError(CompilerError):
    """The cache of compiled programs has no place, or no sources to tell programs apart by."""


class ProgramFormatError(CompilerError):
    """A .npubin is damaged, of an unknown version, or breaks a rule of the format."""


class RecipeError(CompilerError):
    """A weight cannot be made: a missing or wrongly shaped source, or an invalid recipe step."""
