"""Code blocks of Markdown pages, and a torchvision to run them with."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

__all__ = ["ROOT", "code_blocks", "install_torchvision"]

ROOT = Path(__file__).resolve().parents[2]

_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


def code_blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in one language ("" where none is named), in order."""
    text = page.read_text(encoding="utf-8")
    return [match["text"] for match in _BLOCK.finditer(text) if match["language"] == language]


def install_torchvision(monkeypatch: pytest.MonkeyPatch, **models: Any) -> None:
    """Let ``import torchvision.models`` find a module with nothing but ``models``.

    torchvision cannot be imported beside every torch.
    """
    module = types.ModuleType("torchvision.models")
    vars(module).update(models)
    package = types.ModuleType("torchvision")
    vars(package)["models"] = module
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", module)
