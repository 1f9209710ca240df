"""``partition``: splits a model into NPU and CPU segments.

Each node's side is decided first: the NPU's if the callback and the operator's record allow it, and
if everything that touches the same written memory may go with it. Then nodes are grouped into
segments, in the IR's order or in the order that the cost model finds cheapest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from npu_compiler.constraints import Violation, node_violation, used_outputs, write_violations
from npu_compiler.errors import CompileOptionError, PartitionError
from npu_compiler.graph import GETITEM, IRGraph, Node, Value
from npu_compiler.ir_reader import decode_attr, ir_data, load_ir_from_dict
from npu_compiler.ops import find_op, is_op_supported
from npu_compiler.partitioning.aliases import writes_of
from npu_compiler.partitioning.cost import Assignment, CostModel
from npu_compiler.partitioning.order import Segments
from npu_compiler.partitioning.plan import PartitionPlan
from npu_compiler.partitioning.segments import Segmenter
from npu_compiler.precision import choose_precision
from npu_compiler.target import TargetConfig

IsSupported = Callable[[str, Mapping[str, Any]], bool]
Mode = Literal["consecutive", "cost"]
MODES: tuple[Mode, ...] = ("consecutive", "cost")


def partition(
    ir: object,
    is_supported_fn: IsSupported | None = None,
    *,
    mode: Mode = "consecutive",
    target: TargetConfig | None = None,
    compute_dtype: str | None = None,
    cost_model: CostModel | None = None,
) -> PartitionPlan:
    """Split an IR (a path to its JSON, its dict, or an object with ``to_dict``) into segments.

    Args:
        is_supported_fn: called as ``(op_type, attrs)``, says whether the NPU should run such a
            node; ``npu_compiler.is_op_supported`` by default. A node that the NPU has the operator
            of, but cannot run (its shapes, dtypes, arguments), goes to the CPU in any case.
        mode: "consecutive" groups neighbours in the IR's order; "cost" regroups independent
            branches and leaves on the CPU what is not worth a transfer.
        target, compute_dtype: as of ``compile``; one compute dtype holds for all segments.
        cost_model: the times that mode "cost" weighs up.

    Raises:
        IRError: the IR is malformed.
        PartitionError: the callback raised; the message names the node.
        CompileOptionError: an argument has no meaning.
    """
    if mode not in MODES:
        raise CompileOptionError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if is_supported_fn is not None and not callable(is_supported_fn):
        raise CompileOptionError(
            f"is_supported_fn must be callable as (op_type, attrs), got {is_supported_fn!r}"
        )
    data, folder = ir_data(ir)
    graph = load_ir_from_dict(data, folder, foreign=True)
    precision = choose_precision(graph, target or TargetConfig(), compute_dtype)
    kept = _needed(graph)
    segmenter = Segmenter(graph, data, folder, kept)
    violations = _violations(graph, segmenter.nodes, kept, is_supported_fn)
    may = [segmenter.may_run_on_npu(members, violations) for members in segmenter.units.nodes]
    assignment = Assignment(graph, segmenter.units, may, cost_model or CostModel())
    segments, cost = assignment.improve() if mode == "cost" else assignment.consecutive()
    _explain_costs(graph, segmenter, segments, violations)
    return PartitionPlan(
        segmenter.steps(segments),
        segmenter.ir,
        {graph.nodes[index].name: violation for index, violation in sorted(violations.items())},
        tuple(node.name for node, needed in zip(graph.nodes, kept, strict=True) if not needed),
        precision,
        folder,
        cost,
    )


def _needed(graph: IRGraph) -> list[bool]:
    """Which nodes the outputs or a write in place depend on; all of them in a graph without
    outputs.
    """
    needed: set[Value] = set(graph.outputs)
    kept = [True] * len(graph.nodes)
    for index in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[index]
        useful = any(v in needed for v in node.outputs) or node.mutates or writes_of(node)
        kept[index] = bool(useful) or not graph.outputs
        if kept[index]:
            needed.update(node.inputs())
    return kept


def _violations(
    graph: IRGraph,
    nodes: Sequence[Mapping[str, Any]],
    kept: Sequence[bool],
    is_supported_fn: IsSupported | None,
) -> dict[int, Violation]:
    """Why nodes (by index) cannot run on the NPU."""
    ask = None if is_supported_fn in (None, is_op_supported) else is_supported_fn
    used = used_outputs(graph, [n for n, needed in zip(graph.nodes, kept, strict=True) if needed])
    overlapping = {violation.node: violation for violation in write_violations(graph)}
    found: dict[int, Violation] = {}
    for index, node in enumerate(graph.nodes):
        if node.op_type == GETITEM or not kept[index]:
            continue
        allowed = ask is None or _ask(ask, node, nodes[index]["attrs"])
        violation = node_violation(graph, node, used, state=True) or overlapping.get(node.name)
        if not allowed and violation is None:
            reason = "the partition's callback leaves it to the CPU"
            violation = Violation(node.name, node.op_type, reason, node.source, by_choice=True)
        # A callback may know better what an operator is that has no fitting record.
        unknown = find_op(node.op_type) is None or node.name in graph.unbound
        if violation is not None and not (ask is not None and allowed and unknown):
            found[index] = violation
    return found


def _ask(is_supported_fn: IsSupported, node: Node, attrs: Mapping[str, Any]) -> bool:
    decoded = {str(key): decode_attr(value) for key, value in attrs.items()}
    try:
        return bool(is_supported_fn(node.op_type, decoded))
    except Exception as error:
        place = f" of {node.source}" if node.source is not None and str(node.source) else ""
        raise PartitionError(
            f"node {node.name!r} ({node.op_type}){place}: is_supported_fn raised "
            f"{type(error).__name__}: {error}; it is called as (op_type, attrs) and must return "
            "whether the NPU runs the node"
        ) from error


def _explain_costs(
    graph: IRGraph, segmenter: Segmenter, segments: Segments, violations: dict[int, Violation]
) -> None:
    """Give a reason to the nodes that the cost model has left on the CPU."""
    reason = "the NPU could run it, but bringing its tensors there and back would take longer"
    for on_npu, members in segments:
        for index in () if on_npu else segmenter.indices(members):
            node = graph.nodes[index]
            violations.setdefault(
                index, Violation(node.name, node.op_type, reason, node.source, by_choice=True)
            )
