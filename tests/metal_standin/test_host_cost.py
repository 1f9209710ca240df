"""What a dispatch costs the host on the Metal device, over the stand-in."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.metal_standin.standin import Missing, built

# Nanoseconds per dispatch without the stand-in's own time, on any machine that is fit for tests.
LIMIT = 300


def test_a_dispatch_is_cheap_and_allocates_nothing() -> None:
    try:
        bench = built("npu_bench_metal")
    except Missing as reason:
        pytest.skip(f"Metal stand-in: {reason}")
    # Fails where the number of allocations grows with the number of dispatches.
    done = subprocess.run([bench, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    own = [r for r in json.loads(done.stdout) if r["name"].startswith("cpp/metal without")]
    assert len(own) == 2
    assert all(result["best"] < LIMIT for result in own)
