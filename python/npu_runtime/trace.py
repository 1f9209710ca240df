"""Trace files that chrome://tracing and ui.perfetto.dev open."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Span:
    """Something that took time. Nanoseconds of one clock."""

    name: str
    category: str
    begin_ns: int
    end_ns: int
    arguments: Mapping[str, Any]


def trace_events(tracks: Iterable[tuple[str, Iterable[Span]]], process: str) -> dict[str, Any]:
    """The trace as JSON data: one thread per (name, spans) track, times from the first span on."""
    named = [(name, list(spans)) for name, spans in tracks]
    start = min((s.begin_ns for _, spans in named for s in spans), default=0)
    events: list[dict[str, Any]] = [_label("process_name", 0, process)]
    for thread, (name, spans) in enumerate(named):
        events.append(_label("thread_name", thread, name))
        events += [
            {
                "ph": "X",
                "pid": 0,
                "tid": thread,
                "name": span.name,
                "cat": span.category,
                # The format counts in microseconds.
                "ts": (span.begin_ns - start) / 1e3,
                "dur": (span.end_ns - span.begin_ns) / 1e3,
                "args": dict(span.arguments),
            }
            for span in spans
        ]
    return {"displayTimeUnit": "ns", "traceEvents": events}


def save_trace(
    path: str | os.PathLike[str], tracks: Iterable[tuple[str, Iterable[Span]]], process: str
) -> None:
    """Write a trace file; OSError if that is not possible."""
    Path(path).write_text(json.dumps(trace_events(tracks, process)), encoding="utf-8")


def _label(kind: str, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": 0, "tid": thread, "name": kind, "args": {"name": name}}
