"""The generated texts: self-contained, complete, operands bound in the record's order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.record import Kernel
from npu_compiler.kernels.scalar_ops import SCALAR_OPS
from tests.shaders.texts import ENTRIES, generator, shader_text

SHADERS = pytest.mark.parametrize("shader", ENTRIES)


@SHADERS
@pytest.mark.parametrize(
    ("compiler", "includes"), [("metal", ["<metal_stdlib>"]), ("cuda", []), ("clcpp", [])]
)
def test_texts_are_self_contained(shader: str, compiler: str, includes: list[str]) -> None:
    text = shader_text(shader, compiler)
    assert re.findall(r"^\s*#\s*include\s+(\S+)", text, re.M) == includes


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=lambda k: k.name)
def test_metal_binds_operands_in_order(kernel: Kernel) -> None:
    text = shader_text(kernel.shader, "metal")
    for name in kernel.variants:
        found = re.search(rf"^kernel void {name}\((.*?)\) \{{", text, re.S | re.M)
        assert found is not None, name
        bound = re.findall(r"(\w+) \[\[buffer\((\d+)\)\]\]", found[1])
        names = [*(o.name for o in kernel.operands), "params"]
        assert bound == [(n, str(k)) for k, n in enumerate(names)]
        for operand in kernel.operands:
            const = re.search(rf"device const npu_\w+\* {operand.name} ", found[1])
            assert (const is not None) == (operand.access == "read")


def test_scalar_ops_are_listed_once() -> None:
    rows = re.findall(
        r"X\((\d+), (\w+), (\w+), ([fil]), ", shader_text("elementwise.metal", "metal")
    )
    assert rows == [(str(op.id), op.name, op.args, op.result) for op in SCALAR_OPS]


def test_generate_writes_only_what_changed(tmp_path: Path) -> None:
    first = generator().generate(tmp_path)
    assert {p.name for p in first} >= {"npu_scalar_ops.h", "reference_shaders.inc", "conv2d.metal"}
    assert generator().generate(tmp_path) == []
    (tmp_path / "npu_scalar_ops.h").write_text("stale")
    assert [p.name for p in generator().generate(tmp_path)] == ["npu_scalar_ops.h"]
