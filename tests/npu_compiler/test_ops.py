"""Every op record against PyTorch on every device: the cases that were written by hand."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from npu_compiler import get_supported_ops
from npu_compiler.ops import find_op
from tests.npu_compiler.harness import check, ir_of
from tests.npu_compiler.op_cases import CASES, Case

# Every family adds its cases from a file of its own.
for file in sorted(Path(__file__).parent.glob("op_cases_*.py")):
    import_module(f"tests.npu_compiler.{file.stem}")

# Op types that the IR of each case that has run holds.
_SEEN: dict[str, frozenset[str]] = {}


def _op_types(nodes: list[dict[str, object]]) -> frozenset[str]:
    records = (find_op(str(node["op_type"])) for node in nodes)
    return frozenset(record.op_type for record in records if record is not None)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_matches_pytorch(case: Case) -> None:
    result = check(case.module(), *case.inputs)
    _SEEN[case.name] = _op_types(result.ir["nodes"])


def test_every_record_has_a_case() -> None:
    covered: set[str] = set()
    for case in CASES:
        if case.name not in _SEEN:
            _SEEN[case.name] = _op_types(ir_of(case.module(), case.inputs)["nodes"])
        covered |= _SEEN[case.name]
    # torch.export writes these only in graphs that were made in other ways.
    elsewhere = {"aten.detach_.default", "aten.split.sizes"}
    assert get_supported_ops() - covered - elsewhere == frozenset()
