"""What a verification found, node by node."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from npu_sim.verification.measure import Difference


@dataclass(frozen=True)
class NodeReport:
    """A tensor that the device computed.

    ``nodes`` are the IR nodes that its dispatches stand for, the last of which it is the result of.
    ``total`` compares it with PyTorch's own run of the model, ``own`` with PyTorch's result for the
    operands that the device had: the error that these nodes alone add.
    """

    name: str
    nodes: tuple[str, ...]
    op_type: str
    segment: int
    source: str
    shape: tuple[int, ...]
    dtype: str
    storage: str
    total: Difference
    own: Difference
    diverges: bool
    # The node among ``nodes`` that is wrong when it is compiled alone with those before it.
    culprit: str | None = None

    @property
    def status(self) -> str:
        """ "ok", "diverges", "not finite" or "overflow"."""
        if self.total.overflow:
            return "overflow"
        if self.own.nonfinite:
            return "not finite"
        return "diverges" if self.diverges else "ok"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.name,
            "status": self.status,
            "op_type": self.op_type,
            "nodes": list(self.nodes),
            "culprit": self.culprit,
            "segment": self.segment,
            "source": self.source,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "storage": self.storage,
            "sqnr_db": _finite(self.total.sqnr_db),
            "own_sqnr_db": _finite(self.own.sqnr_db),
            "max_abs_error": _finite(self.total.max_abs_error),
            "own_max_abs_error": _finite(self.own.max_abs_error),
            "max_abs": _finite(self.total.max_abs),
            "not_finite": self.total.nonfinite,
            "overflow": self.total.overflow,
        }


@dataclass
class Report:
    """A verification: ``nodes`` in execution order, ``outputs`` those that the model returns."""

    model_name: str
    device: str
    compute_dtype: str
    nodes: list[NodeReport] = field(default_factory=list)
    outputs: list[NodeReport] = field(default_factory=list)
    cpu_nodes: list[str] = field(default_factory=list)
    # Outputs that the program returns otherwise when it keeps nothing else.
    unstable: list[str] = field(default_factory=list)

    @property
    def first(self) -> NodeReport | None:
        """The first tensor that goes wrong."""
        return next((node for node in (*self.nodes, *self.outputs) if node.status != "ok"), None)

    @property
    def ok(self) -> bool:
        """Whether nothing goes wrong."""
        return self.first is None and not self.unstable

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        first = self.first
        return {
            "model_name": self.model_name,
            "device": self.device,
            "compute_dtype": self.compute_dtype,
            "ok": self.ok,
            "first_divergence": None if first is None else first.to_dict(),
            "nodes": [node.to_dict() for node in self.nodes],
            "outputs": [node.to_dict() for node in self.outputs],
            "cpu_nodes": self.cpu_nodes,
            "unstable_outputs": self.unstable,
        }

    @property
    def summary(self) -> str:
        """One line, or two where something goes wrong."""
        worst = min((o.total.sqnr_db for o in self.outputs), default=math.inf)
        what = f"{self.model_name}: {len(self.nodes)} tensors of {self.device} in "
        what += f"{self.compute_dtype} beside PyTorch"
        if self.cpu_nodes:
            what += f", {len(self.cpu_nodes)} nodes on the CPU"
        if self.ok:
            return f"{what}: no divergence, outputs within {decibels(worst)}"
        if (first := self.first) is not None:
            return f"{what}: {first.status}\n{_describe(first)}"
        return f"{what}: outputs {', '.join(self.unstable)} change when tensors are kept"

    def __str__(self) -> str:
        return self.summary


def _describe(node: NodeReport) -> str:
    place = f" ({node.source})" if node.source else ""
    culprit = node.culprit or node.nodes[-1]
    text = f"first at node {culprit!r}{place}: {node.op_type}{list(node.shape)}"
    if len(node.nodes) > 1:
        text += f", compiled together as {'+'.join(node.nodes)}"
    if node.total.overflow:
        return (
            f"{text}: {node.total.overflow} values up to {node.total.max_abs:.4g} do not fit "
            "float16 (65504); compile with compute_dtype bfloat16 or float32"
        )
    if node.own.nonfinite:
        return f"{text}: {node.own.nonfinite} values are NaN or infinite where PyTorch's are not"
    return (
        f"{text}: its own error is {decibels(node.own.sqnr_db)}, largest "
        f"{node.own.max_abs_error:.3g} for values up to {node.own.max_abs:.3g}"
    )


def decibels(value: float) -> str:
    """A ratio for people."""
    return "exact" if value == math.inf else f"{value:.1f} dB"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
