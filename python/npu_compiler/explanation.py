"""``explain``: for every node of a model, where it runs, and why not on the NPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from npu_compiler.constraints import Violation
from npu_compiler.partitioner import IsSupported, Mode, partition
from npu_compiler.partitioning.plan import Partition, PartitionPlan, tensor_bytes
from npu_compiler.suggestions import suggestion
from npu_compiler.target import TargetConfig


@dataclass(frozen=True, slots=True)
class NodePlacement:
    """One node: ``target`` is "npu", "cpu", or "unused" (nothing reads its results).

    ``reason`` is the first rule that keeps it off the NPU, with the values found. ``by_choice``:
    the NPU could run it, but something else decided. ``boundary_bytes``: what of its operands and
    results crosses between the sides, in IR dtypes.
    """

    name: str
    op_type: str
    target: str
    segment: int | None
    results: tuple[str, ...]
    source: str
    reason: str | None = None
    suggestion: str | None = None
    by_choice: bool = False
    boundary_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "name": self.name,
            "op_type": self.op_type,
            "target": self.target,
            "segment": self.segment,
            "results": list(self.results),
            "source": self.source,
            "reason": self.reason,
            "suggestion": self.suggestion,
            "by_choice": self.by_choice,
            "boundary_bytes": self.boundary_bytes,
        }


@dataclass(frozen=True, slots=True)
class Cause:
    """Nodes of one operator that one rule keeps off the NPU, by the first of them."""

    op_type: str
    count: int
    first: NodePlacement


@dataclass(frozen=True)
class Explanation:
    """The placement of every node, in the IR's order, and the plan that it comes from."""

    model_name: str
    nodes: tuple[NodePlacement, ...]
    plan: PartitionPlan

    @cached_property
    def fallbacks(self) -> tuple[NodePlacement, ...]:
        """The nodes that run on the CPU."""
        return tuple(node for node in self.nodes if node.target == "cpu")

    @property
    def runs_on_npu(self) -> bool:
        """Whether every node does."""
        return not self.fallbacks

    @property
    def state_names(self) -> tuple[str, ...]:
        """Weights that the model writes to: they need a DAGExecutor, even without a fallback."""
        return tuple(name for p in self.plan.partitions for name in p.state_names)

    @cached_property
    def causes(self) -> tuple[Cause, ...]:
        """The fallbacks by operator and cause, the most frequent first."""
        groups: dict[tuple[str, str | None, bool], list[NodePlacement]] = {}
        for node in self.fallbacks:
            groups.setdefault((node.op_type, node.suggestion, node.by_choice), []).append(node)
        found = [Cause(key[0], len(nodes), nodes[0]) for key, nodes in groups.items()]
        return tuple(sorted(found, key=lambda cause: (cause.first.by_choice, -cause.count)))

    @property
    def summary(self) -> str:
        """One line."""
        counts = Counter(node.target for node in self.nodes)
        placed = counts["npu"] + counts["cpu"]
        if self.runs_on_npu:
            text = f"{self.model_name}: all {placed} nodes run on the NPU"
            if self.state_names:
                text += f", with {len(self.state_names)} weights kept as state by a DAGExecutor"
            return text
        forced = sum(not node.by_choice for node in self.fallbacks)
        cut = Counter(p.target for p in self.plan.partitions)
        text = (
            f"{self.model_name}: {counts['npu']} of {placed} nodes run on the NPU, "
            f"{counts['cpu']} on the CPU ({forced} have to); "
            f"{_count(cut['npu'], 'NPU segment')}, {_count(cut['cpu'], 'CPU segment')}, "
            f"{self.plan.transferred_bytes:,} bytes transferred"
        )
        first = self.causes[0]
        return f"{text}; most often {first.op_type}: {first.first.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        counts = Counter(node.target for node in self.nodes)
        return {
            "model_name": self.model_name,
            "runs_on_npu": self.runs_on_npu,
            "nodes_npu": counts["npu"],
            "nodes_cpu": counts["cpu"],
            "nodes_unused": counts["unused"],
            "segments": [
                {"id": p.partition_id, "target": p.target, "nodes": len(p.nodes)}
                for p in self.plan.partitions
            ],
            "transferred_bytes": self.plan.transferred_bytes,
            "state": list(self.state_names),
            "nodes": [node.to_dict() for node in self.nodes],
        }

    def __str__(self) -> str:
        return self.summary


def explain(
    ir: object,
    is_supported_fn: IsSupported | None = None,
    *,
    mode: Mode = "consecutive",
    target: TargetConfig | None = None,
) -> Explanation:
    """Where every node of an IR runs, why, what crosses the boundary and what could be changed.

    Arguments and errors are those of ``partition``.
    """
    plan = partition(ir, is_supported_fn, mode=mode, target=target)
    crossing = _crossing_bytes(plan)
    segments = {node["name"]: p for p in plan.partitions for node in p.nodes}
    nodes = tuple(
        _place(node, segments.get(node["name"]), plan, crossing.get(node["name"], 0))
        for node in plan.original_ir["nodes"]
    )
    return Explanation(str(plan.original_ir.get("model_name", "model")), nodes, plan)


def _place(
    node: dict[str, Any], found: Partition | None, plan: PartitionPlan, crossing: int
) -> NodePlacement:
    results = tuple(f"{t['dtype']}{list(t['shape'])}" for t in node["outputs"])
    source = node.get("source") or {}
    place = " at ".join(source[key] for key in ("module", "location") if source.get(key))
    target = "unused" if found is None else found.target
    violation: Violation | None = plan.fallbacks.get(node["name"])
    reason = None if violation is None else violation.reason
    if target == "unused":
        reason = "nothing reads its results"
    return NodePlacement(
        node["name"],
        node["op_type"],
        target,
        None if found is None else found.partition_id,
        results,
        place,
        reason,
        None if violation is None else suggestion(violation),
        violation is not None and violation.by_choice,
        crossing,
    )


def _crossing_bytes(plan: PartitionPlan) -> dict[str, int]:
    """For each node, the bytes of its operands and results that are transferred."""
    nodes = [(node, part.target) for part in plan.partitions for node in part.nodes]
    side = {t["name"]: target for node, target in nodes for t in node["outputs"]}
    producer = {t["name"]: node["name"] for node, _ in nodes for t in node["outputs"]}
    found: Counter[str] = Counter()
    counted: set[str] = set()
    for node, target in nodes:
        for tensor in _distinct(node["inputs"]):
            if side.get(tensor["name"], target) == target:
                continue
            size = tensor_bytes(tensor["shape"], tensor["dtype"])
            found[node["name"]] += size
            # Once transferred, a result is there for every reader.
            if tensor["name"] not in counted:
                counted.add(tensor["name"])
                found[producer[tensor["name"]]] += size
    return dict(found)


def _distinct(tensors: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({t["name"]: t for t in tensors}.values())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
