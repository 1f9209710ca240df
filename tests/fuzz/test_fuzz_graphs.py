"""Random graphs of 5 to 60 operators against PyTorch. A failure names the command to repeat it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from npu_compiler import ops
from npu_compiler.errors import ConstraintError
from tests.fuzz.__main__ import devices_of
from tests.fuzz.check import Mismatch, check
from tests.fuzz.graphs import make_graph
from tests.fuzz.minimize import minimize, pruned

GRAPHS = 2000
CHUNK = 100


@pytest.mark.parametrize("first", range(0, GRAPHS, CHUNK))
def test_graphs(first: int) -> None:
    refused = 0
    for seed in range(first, first + CHUNK):
        case, compute_dtype = make_graph(seed)
        try:
            check(case, compute_dtype, devices_of(seed))
        except ConstraintError:
            # What only the whole graph shows, such as an output that cannot be copied.
            refused += 1
        except Exception as error:
            error.add_note(f"python -m tests.fuzz graphs --seed {seed} --count 1")
            raise
    assert refused <= CHUNK // 20


@pytest.mark.parametrize(
    ("op_type", "emit"),
    [
        ("aten.tanh.default", lambda b, a: b("mul", b("tanh", a["self"]), 1.001)),
        ("aten.sub.Tensor", lambda b, a: b("sub", a["self"], a["other"])),
        ("aten.relu.default", lambda b, a: a["self"]),
    ],
)
def test_a_wrong_operator_is_found(
    op_type: str, emit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A factor of 1.001, an alpha that is ignored, a clamp that is left out."""
    record = ops.find_op(op_type)
    assert record is not None
    monkeypatch.setitem(ops._RECORDS, op_type, replace(record, emit=emit))
    found = 0
    for seed in range(1500):
        case, compute_dtype = make_graph(seed, 20)
        if op_type in pruned(case).ops and compute_dtype == "float32":
            try:
                check(case, compute_dtype, ["cpu"])
            except Mismatch:
                found += 1
                if found == 3:
                    return
    pytest.fail(f"only {found} graphs noticed")


def test_graphs_are_large_and_various() -> None:
    ops: set[str] = set()
    sizes = []
    for seed in range(200):
        case, _ = make_graph(seed)
        ops |= set(case.ops)
        sizes.append(len(case.ir.nodes))
    assert len(ops) > 100 and max(sizes) > 40 and sum(sizes) / len(sizes) > 15


def test_the_same_seed_makes_the_same_graph() -> None:
    (a, first), (b, second) = make_graph(7), make_graph(7)
    assert a.ir == b.ir and first == second
    assert all(torch.equal(a.inputs[name], b.inputs[name]) for name in a.inputs)


def test_minimisation_finds_the_operator() -> None:
    case = next(
        found
        for found in (pruned(make_graph(seed)[0]) for seed in range(99))
        if len(found.ops) > 15
    )
    wanted = case.ops[7]
    small = minimize(case, lambda candidate: wanted in candidate.ops)
    assert small.ops == [wanted] and len(small.ir.graph_outputs) == 1
