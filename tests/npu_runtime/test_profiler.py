"""Profiler: counts, sums, tables, trace files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from npu_runtime import Device, Executor, Profiler, load_weights, profile
from npu_runtime.errors import ArgumentError
from tests.npu_runtime.programs import small_net


@pytest.fixture(params=["cpu", "reference"])
def profiler(request: pytest.FixtureRequest) -> Profiler:
    """A profile of three runs of the small network."""
    case, device = small_net(), Device(request.param)
    weights = load_weights(case.state_dict, case.program, device)
    return profile(
        Executor(case.program, device), {"input": case.inputs[0]}, weights, warmup=1, iterations=3
    )


def test_every_dispatch_is_counted_in_every_run(profiler: Profiler) -> None:
    calls = small_net().program.kernel_calls
    data = profiler.to_dict()
    assert data["runs"] == profiler.runs == 3
    assert sum(k["count"] for k in data["kernels"]) == 3 * len(calls)
    assert {d["name"] for d in data["dispatches"]} == {c.name for c in calls}
    assert all(d["count"] == 3 for d in data["dispatches"])
    json.dumps(data)


def test_sums_add_up(profiler: Profiler) -> None:
    data = profiler.to_dict()
    for rows in (data["kernels"], data["dispatches"]):
        assert sum(r["share"] for r in rows) == pytest.approx(1)
        total = sum(r["total_ms"] for r in rows)
        assert total == pytest.approx(3 * data["kernel_ms_per_run"])
        assert [r["total_ms"] for r in rows] == sorted((r["total_ms"] for r in rows), reverse=True)
    assert 0 < data["kernel_ms_per_run"] <= data["wall_ms_per_run"]
    conv = next(r for r in data["kernels"] if r["name"] == "conv2d")
    flops = sum(c.flops for c in small_net().program.kernel_calls if c.kernel_name == "conv2d")
    assert conv["gflops_per_s"] == pytest.approx(3 * flops / 1e6 / conv["total_ms"])
    assert conv["average_us"] == pytest.approx(conv["total_ms"] * 1e3 / conv["count"])


def test_the_table_shows_time_calls_and_average(
    profiler: Profiler, capsys: pytest.CaptureFixture[str]
) -> None:
    profiler.print_summary(dispatches=2)
    text = capsys.readouterr().out
    for word in ("kernel", "total ms", "calls", "average us", "conv2d", "GFLOP/s", "SmallNet"):
        assert word in text
    profiler.reset()
    assert profiler.runs == 0
    profiler.print_summary()


def test_outputs_are_those_of_run(profiler: Profiler) -> None:
    case = small_net()
    executor = profiler._executor
    weights = load_weights(case.state_dict, case.program, executor.device)
    plain = executor.run({"input": case.inputs[0]}, weights)["output"].to_numpy()
    timed = profiler.run(inputs={"input": case.inputs[0]}, weights=weights)["output"].to_numpy()
    np.testing.assert_array_equal(plain, timed)


def test_trace_file(profiler: Profiler, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    profiler.save_trace(path)
    trace = json.loads(path.read_text())
    spans = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    labels = [e for e in trace["traceEvents"] if e["ph"] == "M"]
    assert {e["name"] for e in labels} == {"process_name", "thread_name"}
    assert len(spans) == 3 * len(small_net().program.kernel_calls)
    assert min(e["ts"] for e in spans) == 0
    last = 0.0
    for event in spans:
        assert event["dur"] >= 0
        # One run after another, one dispatch after another.
        assert event["ts"] >= last - 1e-3
        last = event["ts"] + event["dur"]
    assert {e["cat"] for e in spans} >= {"conv2d", "linear"}


def test_arguments_are_checked(profiler: Profiler) -> None:
    with pytest.raises(ArgumentError, match="iterations 0"):
        profile(profiler._executor, {}, {}, iterations=0)
