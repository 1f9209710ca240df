"""The demonstration's tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from npu_sim.agreement import TIE, Agreement
from npu_sim.demo.case import CaseResult

if TYPE_CHECKING:
    from rich.table import Table


def model_table(results: Sequence[CaseResult]) -> Table:
    """One column per model: agreement, error, latency, sizes, times of the first device."""
    from rich.table import Table

    table = Table("", box=None, pad_edge=False)
    for result in results:
        table.add_column(f"{result.model} {result.dtype}", justify="right")
    rows: list[tuple[str, list[str]]] = []

    def add(label: str, cells: list[str]) -> None:
        rows.append((label, cells))

    first = [r.devices[0] for r in results]
    add(f"top-5 agreement ({first[0].device})", [_share(d.agreement, "top5") for d in first])
    add(f"top-1 agreement ({first[0].device})", [_share(d.agreement, "top1") for d in first])
    add("SQNR", [_decibels(d.agreement.sqnr_db) for d in first])
    add("largest error of a logit", [f"{d.agreement.max_abs_error:.4f}" for d in first])
    add("latency, median", [_latency(r.latency.median, r.latency.spread) for r in results])
    add(
        "torch eager float32",
        [_latency(r.torch_latency.median, r.torch_latency.spread) for r in results],
    )
    add("times as fast", [f"{r.torch_latency.median / r.latency.median:.2f}" for r in results])
    add("dispatches", [str(r.dispatches) for r in results])
    add("arena", [f"{r.arena_bytes:,} B" for r in results])
    add("  liveness lower bound", [f"{r.arena_lower_bound_bytes:,} B" for r in results])
    add("  above it", [_above(r.arena_bytes, r.arena_lower_bound_bytes) for r in results])
    add("program file", [f"{r.program_bytes:,} B" for r in results])
    add("extract IR", [f"{r.extract_ms:.0f} ms" for r in results])
    add("compile", [f"{r.compile_ms:.0f} ms" for r in results])
    add("load + verify program", [f"{r.load_verify_ms:.2f} ms" for r in results])
    add("read program in Python", [f"{r.read_ms:.1f} ms" for r in results])
    add("load weights", [f"{r.weights_ms:.0f} ms" for r in results])
    for label, cells in rows:
        table.add_row(label, *cells)
    return table


def device_table(results: Sequence[CaseResult]) -> Table:
    """One row per model and device."""
    from rich.table import Table

    table = Table("model", "device", box=None, pad_edge=False)
    for heading in ("images", "top-1", "top-5", "SQNR", "largest error", "s/image"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for result in results:
        for device in result.devices:
            agreement = device.agreement
            table.add_row(
                result.model,
                device.device,
                str(agreement.images),
                _share(agreement, "top1"),
                _share(agreement, "top5"),
                _decibels(agreement.sqnr_db),
                f"{agreement.max_abs_error:.4f}",
                f"{device.seconds_per_image:.3f}",
                "agrees" if agreement.agrees else "DISAGREES",
            )
    return table


def footnote(results: Sequence[CaseResult]) -> str:
    """How ties are counted."""
    dtype = results[0].dtype
    exact = sum(d.agreement.top5_exact for r in results for d in r.devices)
    images = sum(d.agreement.images for r in results for d in r.devices)
    return (
        f"Logits within {TIE[dtype]:g} standard deviations count as tied; "
        f"without ties {exact} of {images} top-5 sets are equal."
    )


def _share(agreement: Agreement, field: str) -> str:
    return f"{getattr(agreement, field)}/{agreement.images}"


def _decibels(value: float) -> str:
    return f"{value:.1f} dB" if math.isfinite(value) else str(value)


def _latency(median: float, spread: float) -> str:
    return f"{median:.2f} ms (IQR {spread:.2f})"


def _above(size: int, bound: int) -> str:
    return f"{size / bound - 1:+.1%}" if bound else "-"
