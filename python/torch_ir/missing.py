"""What importing torch_ir does where PyTorch is not installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

from .errors import MissingTorchError

__all__ = ["refuse"]

_MESSAGE = "torch_ir needs PyTorch, which is not installed: pip install npu-sim[torch]"


def _runs_as_command() -> bool:
    """Whether the process is ``torch-ir`` or ``python -m torch_ir``, whose errors are one line."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":
        arguments = sys.orig_argv
        return "-m" in arguments and arguments[arguments.index("-m") + 1] == "torch_ir"
    return Path(program).stem == "torch-ir"


def refuse(cause: ImportError) -> NoReturn:
    """Raise MissingTorchError, or end the command line with status 1 after one line on stderr.

    The command line cannot do so itself: the package is imported before any of its modules.
    """
    if _runs_as_command():
        print(f"torch-ir: {_MESSAGE}", file=sys.stderr)
        raise SystemExit(1)
    raise MissingTorchError(_MESSAGE, name="torch") from cause
