"""Where a graph node comes from: the module path and file:line that torch.export recorded."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import torch
from torch.fx import Node

__all__ = ["source_of"]

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_TORCH_ROOT = str(Path(torch.__file__).parent)


def source_of(node: Node) -> dict[str, str] | None:
    """Return the module path and file:line of a node, without directories of this machine."""
    source: dict[str, str] = {}
    stack = node.meta.get("nn_module_stack")
    if stack:
        module = str(next(reversed(stack.values()))[0]).split("@")[0].removeprefix("L['self'].")
        if module and module != "L['self']":
            source["module"] = module
    location = _location(node.meta.get("stack_trace") or "")
    if location:
        source["location"] = location
    return source or None


@functools.lru_cache(maxsize=1024)
def _location(stack_trace: str) -> str:
    """Return the innermost file:line of a stack trace that is not PyTorch's own, if any; layers
    of the same class have the same traces.
    """
    frames = list(_FRAME.finditer(stack_trace))
    own = [frame for frame in frames if not frame["file"].startswith(_TORCH_ROOT)]
    if not frames:
        return ""
    frame = (own or frames)[-1]
    return f"{_short_path(frame['file'])}:{frame['line']}"


_short_paths: dict[str, str] = {}


def _short_path(file: str) -> str:
    """Return a file's path from its top-level package on: the same on every machine."""
    if file not in _short_paths:
        path = Path(file)
        root = path.parent
        while (root / "__init__.py").is_file() and root != root.parent:
            root = root.parent
        _short_paths[file] = path.relative_to(root).as_posix()
    return _short_paths[file]
