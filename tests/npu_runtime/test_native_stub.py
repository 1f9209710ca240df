"""The type stub in the source tree says what the native module has."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import npu_runtime
from npu_runtime import _native

STUB = Path(npu_runtime.errors.__file__).with_name("_native.pyi")


def declarations(text: str) -> list[str]:
    """Every statement, without docstrings and formatting; imports in any order."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [
                s
                for s in body
                if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
            ] or [ast.Pass()]
    return sorted(ast.unparse(s) for s in tree.body)


def test_the_stub_is_up_to_date() -> None:
    stubgen = pytest.importorskip("nanobind.stubgen")
    generator = stubgen.StubGen(_native)
    generator.put(_native)
    assert declarations(STUB.read_text(encoding="utf-8")) == declarations(generator.get()), (
        "npu_runtime/_native.pyi is out of date: "
        "python -m nanobind.stubgen -m npu_runtime._native -o python/npu_runtime/_native.pyi"
    )
