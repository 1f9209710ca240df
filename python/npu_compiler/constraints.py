"""The constraint check: which nodes the NPU cannot run, why, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from npu_compiler.dtypes import DTYPES
from npu_compiler.errors import ConstraintError, UnsupportedOpError
from npu_compiler.graph import GETITEM, IRGraph, Node, Source, Value
from npu_compiler.ir_reader import size_problem
from npu_compiler.ops import find_op
from npu_compiler.torch_memory import overlapping_writes


@dataclass(frozen=True, slots=True)
class Violation:
    """A node that breaks a rule; ``unsupported`` says that the NPU lacks the operator,
    ``by_choice`` that the NPU could run it, but a callback or a cost decided otherwise.
    """

    node: str
    op_type: str
    reason: str
    source: Source | None = None
    unsupported: bool = False
    by_choice: bool = False

    def __str__(self) -> str:
        place = f" ({self.source})" if self.source is not None and str(self.source) else ""
        return f"node {self.node!r}{place}: {self.op_type}: {self.reason}"


UsedOutputs = Mapping[Node, set[int]]


def used_outputs(graph: IRGraph, nodes: Sequence[Node] | None = None) -> dict[Node, set[int]]:
    """For every node, the indices of its outputs that something reads (one of ``nodes``, where only
    some count); a getitem reads what it picks.
    """
    used: dict[Node, set[int]] = {}

    def read(value: Value) -> None:
        if value.producer is not None:
            used.setdefault(value.producer, set()).add(value.index)

    for node in graph.nodes if nodes is None else nodes:
        if node.op_type == GETITEM:
            read(node.args["self"][node.args["index"]])
        else:
            for value in node.inputs():
                read(value)
    for value in graph.outputs:
        read(value)
    return used


def node_violation(
    graph: IRGraph, node: Node, used: UsedOutputs | None = None, *, state: bool = False
) -> Violation | None:
    """The first rule that ``node`` breaks, or None.

    ``used`` is ``used_outputs(graph)``, for callers that ask about many nodes. With ``state``,
    weights may be written to: whoever runs the node keeps them outside the program.
    """
    if node.op_type == GETITEM:
        return None
    record = find_op(node.op_type)
    if record is None:
        return Violation(node.name, node.op_type, "the NPU has no such operator", node.source, True)
    reason = graph.unbound.get(node.name)
    if reason is None and record.single_output and len(node.outputs) > 1:
        read = (used_outputs(graph) if used is None else used).get(node, set())
        if any(index > 0 for index in read):
            reason = "only its first output can be used, but another one is read"
    if reason is None and not state:
        written = next((name for name in node.mutates if name in graph.weights), None)
        if written is not None:
            reason = f"it writes to {written!r} in place, but a program's weights are read-only"
    if reason is None:
        reason = record.reason(node) or _size_reason(node)
    return None if reason is None else Violation(node.name, node.op_type, reason, node.source)


def _size_reason(node: Node) -> str | None:
    """Why one of the node's tensors is too large for a program; of dtypes that a program knows."""
    for value in (*node.inputs(), *node.outputs):
        problem = size_problem(value.shape, value.dtype) if value.dtype in DTYPES else None
        if problem is not None:
            return f"tensor {value.name!r}: {problem}"
    return None


def check_constraints(graph: IRGraph) -> list[Violation]:
    """Every node of ``graph`` that the NPU cannot run, in order; an empty list means that it
    compiles.
    """
    used = used_outputs(graph)
    overlapping = {violation.node: violation for violation in write_violations(graph)}
    found = (
        node_violation(graph, node, used) or overlapping.get(node.name) for node in graph.nodes
    )
    return [violation for violation in found if violation is not None]


def write_violations(graph: IRGraph) -> list[Violation]:
    """The nodes that write in place where the NPU cannot: to elements that share memory."""
    return [
        Violation(node.name, node.op_type, reason, node.source)
        for node, reason in overlapping_writes(graph).items()
    ]


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
        "npu_compiler.partition and npu_runtime.DAGExecutor (`npu-sim run model_ir.json`) run such "
        "nodes on the CPU; `npu-sim explain model_ir.json` suggests how to do without them; "
        "npu_compiler.get_supported_ops() lists the operators that the NPU has."
    )
    error = UnsupportedOpError if unsupported else ConstraintError
    raise error("\n".join([head, *lines, way_out]), violations)
