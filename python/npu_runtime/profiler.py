"""Profiler: where the time of a run goes, per kernel and per dispatch."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from npu_runtime.buffer import NPUBuffer
from npu_runtime.errors import ArgumentError
from npu_runtime.names import NamedOutputs
from npu_runtime.trace import Span, save_trace, trace_events

if TYPE_CHECKING:
    from rich.console import Console

    from npu_runtime.executor import DispatchTimes, Executor


@dataclass
class Work:
    """What some launches took and did, summed over runs."""

    name: str
    count: int = 0
    total_ns: int = 0
    flops: int = 0
    bytes: int = 0

    def add(self, nanoseconds: int, flops: int, moved: int) -> None:
        """Count one launch."""
        self.count += 1
        self.total_ns += nanoseconds
        self.flops += flops
        self.bytes += moved

    def to_dict(self, whole_ns: int) -> dict[str, Any]:
        """Plain data; ``share`` is the part of ``whole_ns``."""
        seconds = self.total_ns / 1e9
        return {
            "name": self.name,
            "count": self.count,
            "total_ms": self.total_ns / 1e6,
            "average_us": self.total_ns / 1e3 / max(self.count, 1),
            "share": self.total_ns / max(whole_ns, 1),
            "gflops_per_s": self.flops / 1e9 / seconds if seconds else 0.0,
            "gbytes_per_s": self.bytes / 1e9 / seconds if seconds else 0.0,
        }


@dataclass(frozen=True)
class _Run:
    """One profiled run: its wall-clock nanoseconds and when each dispatch ran."""

    wall_ns: int
    times: DispatchTimes


class Profiler:
    """Runs an executor and keeps the time of every dispatch; results add up over runs.

    GFLOP/s and GB/s come from the operations and bytes that the program states for each dispatch
    (each operand counted once).
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._runs: list[_Run] = []

    def run(
        self, inputs: Mapping[str, Any], weights: Mapping[str, NPUBuffer]
    ) -> NamedOutputs[NPUBuffer]:
        """As ``Executor.run``, with the time of every dispatch noted."""
        begin = time.perf_counter_ns()
        outputs, times = self._executor.run_profiled(inputs, weights)
        self._runs.append(_Run(time.perf_counter_ns() - begin, times))
        return outputs

    def reset(self) -> None:
        """Forget all runs."""
        self._runs.clear()

    @property
    def runs(self) -> int:
        """Runs noted so far."""
        return len(self._runs)

    def kernels(self) -> list[Work]:
        """Time per kernel over all runs, the longest first."""
        return self._sum(lambda call: str(call.kernel_name))

    def dispatches(self) -> list[Work]:
        """Time per dispatch (the IR nodes that it computes) over all runs, the longest first."""
        return self._sum(lambda call: str(call.name))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data: totals, kernels, dispatches."""
        kernels = self.kernels()
        whole = sum(k.total_ns for k in kernels)
        runs = max(self.runs, 1)
        return {
            "model_name": self._executor.program.model_name,
            "device": self._executor.device.kind,
            "runs": self.runs,
            "wall_ms_per_run": sum(r.wall_ns for r in self._runs) / 1e6 / runs,
            "kernel_ms_per_run": whole / 1e6 / runs,
            "kernels": [k.to_dict(whole) for k in kernels],
            "dispatches": [d.to_dict(whole) for d in self.dispatches()],
        }

    def print_summary(self, console: Console | None = None, *, dispatches: int = 0) -> None:
        """Print a table of the kernels, and of the ``dispatches`` longest dispatches."""
        from rich.console import Console
        from rich.table import Table

        where = console or Console(file=sys.stdout, highlight=False)
        if console is None and not where.is_terminal:
            where.width = 160
        data = self.to_dict()
        for title, rows in (
            ("kernel", data["kernels"]),
            ("dispatch", data["dispatches"][:dispatches]),
        ):
            if not rows:
                continue
            table = Table(title, box=None, pad_edge=False)
            for heading in ("total ms", "calls", "average us", "share", "GFLOP/s", "GB/s"):
                table.add_column(heading, justify="right")
            for row in rows:
                table.add_row(
                    row["name"],
                    f"{row['total_ms']:.3f}",
                    str(row["count"]),
                    f"{row['average_us']:.1f}",
                    f"{row['share']:.1%}",
                    f"{row['gflops_per_s']:.1f}",
                    f"{row['gbytes_per_s']:.1f}",
                )
            where.print(table)
            where.print()
        where.print(
            f"{data['model_name']} on {data['device']}, {data['runs']} runs: "
            f"{data['wall_ms_per_run']:.3f} ms per run, "
            f"{data['kernel_ms_per_run']:.3f} ms in kernels"
        )

    def trace(self) -> dict[str, Any]:
        """The runs as Chrome/Perfetto trace data."""
        return trace_events(self._tracks(), self._executor.program.model_name)

    def save_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the runs as a trace for ui.perfetto.dev or chrome://tracing (JSON)."""
        save_trace(path, self._tracks(), self._executor.program.model_name)

    def _tracks(self) -> list[tuple[str, list[Span]]]:
        calls = self._executor.program.kernel_calls
        spans = [
            Span(
                calls[index].name,
                calls[index].kernel_name,
                begin,
                end,
                {"kernel": calls[index].kernel_name, "dispatch": index, "run": number},
            )
            for number, run in enumerate(self._runs)
            for index, begin, end in run.times
        ]
        return [(self._executor.device.name, spans)]

    def _sum(self, key: Any) -> list[Work]:
        calls = self._executor.program.kernel_calls
        rows: dict[str, Work] = {}
        for run in self._runs:
            for index, begin, end in run.times:
                call = calls[index]
                name = key(call)
                rows.setdefault(name, Work(name)).add(end - begin, call.flops, call.bytes)
        return sorted(rows.values(), key=lambda row: -row.total_ns)


def profile(
    executor: Executor,
    inputs: Mapping[str, Any],
    weights: Mapping[str, NPUBuffer],
    warmup: int = 3,
    iterations: int = 10,
) -> Profiler:
    """Profile ``iterations`` runs after ``warmup`` unrecorded ones, into a new Profiler."""
    if warmup < 0 or iterations < 1:
        raise ArgumentError(
            f"warmup {warmup}, iterations {iterations}: at least 0 and 1 are needed"
        )
    for _ in range(warmup):
        executor.run(inputs, weights)
    profiler = Profiler(executor)
    for _ in range(iterations):
        profiler.run(inputs, weights)
    return profiler
