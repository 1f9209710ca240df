"""Tables of ``npu-sim explain``."""

from __future__ import annotations

from rich.table import Table

from npu_compiler.explanation import Explanation, NodePlacement
from npu_compiler.partitioner import MODES, Mode
from npu_sim.errors import UsageError


def checked_mode(text: str) -> Mode:
    """The partitioner's mode of that name; UsageError where there is none."""
    for mode in MODES:
        if text == mode:
            return mode
    raise UsageError(f"--mode {text}: choose from {', '.join(MODES)}")


def cause_table(explanation: Explanation) -> Table | None:
    """Fallbacks by operator and cause; None where there are none."""
    if not explanation.causes:
        return None
    table = Table("nodes", "operator", "first of them", "reason", "what to do", box=None)
    for cause in explanation.causes:
        first = cause.first
        place = f"{first.name} ({first.source})" if first.source else first.name
        table.add_row(
            str(cause.count), cause.op_type, place, first.reason or "", first.suggestion or ""
        )
    return table


def node_table(explanation: Explanation) -> Table:
    """Every node."""
    table = Table("side", "segment", "node", "operator", "results", "crossing", box=None)
    for heading in ("source", "reason", "what to do"):
        table.add_column(heading)
    for node in explanation.nodes:
        table.add_row(*_row(node))
    return table


def _row(node: NodePlacement) -> tuple[str, ...]:
    return (
        node.target,
        "" if node.segment is None else str(node.segment),
        node.name,
        node.op_type,
        ", ".join(node.results),
        f"{node.boundary_bytes:,}" if node.boundary_bytes else "",
        node.source,
        node.reason or "",
        node.suggestion or "",
    )
