"""Tables of ``npu-sim verify``."""

from __future__ import annotations

from rich.table import Table

from npu_sim.verification.report import NodeReport, Report, decibels


def table_of(report: Report, *, full: bool) -> Table | None:
    """Every tensor, or only those that go wrong; None where there is nothing to show."""
    nodes = [node for node in report.nodes if full or node.status != "ok"]
    if not nodes:
        return None
    table = Table("tensor", "operator", "status", "SQNR", "own SQNR", "largest error", box=None)
    for heading in ("largest value", "storage", "nodes", "source"):
        table.add_column(heading)
    for node in nodes:
        table.add_row(*_row(node))
    return table


def _row(node: NodeReport) -> tuple[str, ...]:
    return (
        node.name,
        node.op_type,
        node.status,
        decibels(node.total.sqnr_db),
        decibels(node.own.sqnr_db),
        f"{node.total.max_abs_error:.3g}",
        f"{node.total.max_abs:.4g}",
        node.storage,
        "+".join(node.nodes),
        node.source,
    )
