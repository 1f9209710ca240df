"""The constraint check: which nodes the NPU cannot run, why, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npu_compiler.errors import ConstraintError, UnsupportedOpError
from npu_compiler.graph import GETITEM, IRGraph, Node, Source
from npu_compiler.ops import find_op


@dataclass(frozen=True, slots=True)
class Violation:
    """A node that breaks a rule; ``unsupported`` says that the NPU lacks the operator."""

    node: str
    op_type: str
    reason: str
    source: Source | None = None
    unsupported: bool = False

    def __str__(self) -> str:
        place = f" ({self.source})" if self.source is not None and str(self.source) else ""
        return f"node {self.node!r}{place}: {self.op_type}: {self.reason}"


def node_violation(graph: IRGraph, node: Node) -> Violation | None:
    """The first rule that ``node`` breaks, or None."""
    if node.op_type == GETITEM:
        return None
    record = find_op(node.op_type)
    if record is None:
        return Violation(node.name, node.op_type, "the NPU has no such operator", node.source, True)
    several = record.single_output and len(node.outputs) > 1
    if several and any(index > 0 for index in graph.used_outputs(node)):
        reason: str | None = "only its first output can be used, but another one is read"
    elif (state := _mutated_state(graph, node)) is not None:
        reason = f"it writes to {state!r} in place, but a program's weights are read-only"
    else:
        reason = record.reason(node)
    return None if reason is None else Violation(node.name, node.op_type, reason, node.source)


def _mutated_state(graph: IRGraph, node: Node) -> str | None:
    return next((name for name in node.mutates if name in graph.weights), None)


def check_constraints(graph: IRGraph) -> list[Violation]:
    """Every node of ``graph`` that the NPU cannot run, in order; an empty list means that it
    compiles.
    """
    found = (node_violation(graph, node) for node in graph.nodes)
    return [violation for violation in found if violation is not None]


def raise_for_violations(violations: Sequence[Violation], limit: int = 20) -> None:
    """Raise UnsupportedOpError or ConstraintError listing ``violations``; does nothing for an empty
    list.
    """
    if not violations:
        return
    lines = [f"  {v}" for v in violations[:limit]]
    if len(violations) > limit:
        lines.append(f"  ... and {len(violations) - limit} more")
    unsupported = any(v.unsupported for v in violations)
    head = f"{len(violations)} of the model's nodes cannot run on the NPU:"
    way_out = (
        "Change the model so that it needs none of them, or leave these nodes out of what is "
        "compiled; npu_compiler.get_supported_ops() lists the operators that the NPU has."
    )
    error = UnsupportedOpError if unsupported else ConstraintError
    raise error("\n".join([head, *lines, way_out]), violations)
