"""The result of a benchmark: rows for people and for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from npu_sim.agreement import Logits, sqnr_db
from npu_sim.bench.contenders import Absent, Contender
from npu_sim.bench.measure import Statistics

if TYPE_CHECKING:
    from rich.table import Table


def rows(
    contenders: Sequence[Contender],
    measured: Mapping[str, Statistics],
    batch: int,
    expected: Logits | None = None,
) -> list[dict[str, Any]]:
    """One row per contender. The first is the yardstick of ``ratio`` (its median = 1).

    ``expected`` are PyTorch's float32 logits, which give each row its error.
    """
    base = measured[contenders[0].label].median
    found = []
    for contender in contenders:
        statistics = measured[contender.label]
        found.append(
            {
                "name": contender.name,
                "precision": contender.precision,
                **statistics.to_dict(),
                "images_per_second": batch * 1e3 / statistics.median,
                "ratio": statistics.median / base,
                "sqnr_db": None if expected is None else _finite_sqnr(expected, contender.logits()),
                **contender.notes,
            }
        )
    return found


def _finite_sqnr(expected: Logits, actual: Logits) -> float | None:
    """SQNR in dB; None where it is infinite or undefined, which JSON has no number for."""
    found = sqnr_db(expected, actual)
    return found if math.isfinite(found) else None


def table(found: Sequence[Mapping[str, Any]], absent: Sequence[Absent]) -> Table:
    """The rows as a rich table. ``ratio`` above 1 is slower than the first row."""
    from rich.table import Table

    shown = Table("", "precision", box=None, pad_edge=False)
    for heading in ("median ms", "IQR", "min", "images/s", "ratio", "SQNR dB"):
        shown.add_column(heading, justify="right")
    for row in found:
        quality = "" if row["sqnr_db"] is None else f"{row['sqnr_db']:.1f}"
        shown.add_row(
            row["name"],
            row["precision"],
            f"{row['median_ms']:.2f}",
            f"{row['iqr_ms']:.2f}",
            f"{row['min_ms']:.2f}",
            f"{row['images_per_second']:.1f}",
            f"{row['ratio']:.2f}",
            quality,
        )
    for peer in absent:
        shown.add_row(peer.name, f"absent: {peer.reason}")
    return shown
