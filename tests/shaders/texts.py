"""The generated shader texts, as the build writes them."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from npu_compiler.kernels import KERNELS

TOOLS = Path(__file__).resolve().parents[2] / "tools"
# File names of shaders/ with the entry points that each must define.
ENTRIES: dict[str, tuple[str, ...]] = {}
for _kernel in KERNELS.values():
    for _entry in _kernel.entry_points:
        _names = _entry.variants(_kernel.type_values)
        ENTRIES[_entry.shader] = (*ENTRIES.get(_entry.shader, ()), *_names)


@cache
def generator() -> ModuleType:
    """tools/generate_shaders.py as a module."""
    sys.path.insert(0, str(TOOLS))
    try:
        import generate_shaders
    finally:
        sys.path.remove(str(TOOLS))
    module: ModuleType = generate_shaders
    return module


@cache
def shader_text(shader: str, compiler: str) -> str:
    """The text of a shader file for ``metal``, ``cuda`` or ``clcpp``."""
    text: str = generator().shader_text(shader, compiler)
    return text
