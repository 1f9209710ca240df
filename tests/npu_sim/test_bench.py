"""Benchmarks: statistics, turns, peers that are there and peers that are not."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from npu_runtime import Device
from npu_sim.bench import contenders, own, report
from npu_sim.bench.contenders import Absent, Contender, Workload, choose_peers, prepare_peers
from npu_sim.bench.measure import Statistics, interleave
from npu_sim.errors import UsageError
from tests.npu_runtime.programs import SmallNet


def test_statistics() -> None:
    found = Statistics.of([4.0, 1.0, 3.0, 2.0, 100.0])
    assert (found.samples, found.median, found.minimum) == (5, 3.0, 1.0)
    assert (found.lower_quartile, found.upper_quartile, found.spread) == (2.0, 4.0, 2.0)
    assert Statistics.of([7.0]).spread == 0


def test_contenders_take_turns() -> None:
    order: list[str] = []
    turns: list[int] = []

    def run(name: str, seconds: float):
        def work() -> None:
            order.append(name)
            time.sleep(seconds)

        return work

    found = interleave(
        {"fast": run("fast", 0.001), "slow": run("slow", 0.004)},
        rounds=4,
        turn_seconds=0.01,
        warmup_seconds=0,
        on_turn=lambda: turns.append(1),
    )
    assert len(turns) == 8
    assert found["fast"].median < found["slow"].median
    changes = sum(a != b for a, b in itertools.pairwise(order))
    # Every round, back and forth: f s, s f, f s, s f.
    assert 4 <= changes <= 8


def test_unknown_peers_are_named() -> None:
    with pytest.raises(UsageError, match=r"tensorflow.*onnxruntime"):
        choose_peers(["torch", "tensorflow"])


def test_absent_peers_are_listed_with_the_way_to_install_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(contenders, "installed", lambda name: False)
    work = Workload("none", None, np.zeros((1, 3, 32, 32), np.float32), 1)
    ready, absent = prepare_peers(choose_peers(["openvino", "onnxruntime"]), work)
    assert not ready
    assert [a.name for a in absent] == ["openvino", "onnxruntime"]
    assert all("pip install npu-sim[" in a.reason for a in absent)


def test_peers_and_we_compute_the_same() -> None:
    from npu_sim.models import random_images, trained_like

    model = trained_like(SmallNet(), 1, calibration_images=2, image_size=32)
    work = Workload("small", model, random_images(2, 32, seed=4).numpy(), 1)
    ready, absent = prepare_peers(choose_peers(["torch", "onnxruntime", "openvino"]), work)
    everyone = [*ready, own.contender(work, "float16", Device("cpu"))]
    for contender in everyone:
        contender.run()
    measured = dict.fromkeys((c.label for c in everyone), STATISTICS)
    rows = report.rows(everyone, measured, 2, work.expected())
    for row in rows:
        if (row["name"], row["precision"]) != ("torch", "float32"):
            assert row["sqnr_db"] > (25 if row["precision"] == "bfloat16" else 40), row
    assert rows[0]["ratio"] == 1
    text = report.table(rows, [*absent, Absent("elsewhere", "not installed")])
    assert text.row_count == len(rows) + len(absent) + 1


STATISTICS = Statistics(3, 2.0, 1.5, 2.5, 1.0)


def test_ratios_and_rates() -> None:
    ours = Contender("npu_sim (cpu)", "float16", lambda: None, lambda: np.ones(3, np.float32))
    torch_row = Contender("torch", "float32", lambda: None, lambda: np.ones(3, np.float32))
    slow = Statistics(3, 6.0, 1.5, 2.5, 1.0)
    rows = report.rows([ours, torch_row], {ours.label: STATISTICS, torch_row.label: slow}, 4)
    assert [r["ratio"] for r in rows] == [1, 3]
    assert rows[0]["images_per_second"] == 2000
    assert rows[1]["sqnr_db"] is None
