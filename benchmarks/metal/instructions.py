"""Instructions of cpp/metal per dispatch, counted by callgrind, which no neighbour disturbs.

python -m benchmarks.metal.instructions [--json]: the function that encodes a run, what is inlined
into it included and the stand-in's messages left out, with two lengths of the same chain of
dispatches; their difference leaves what a run costs once.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.metal_standin.standin import built

# Encodes and commits a run (cpp/metal/submission.cpp).
FUNCTION = "npu::metal::submit("
FEW, MANY = 172, 2000


def counted(bench: Path, dispatches: int) -> int:
    """Instructions of FUNCTION itself in one run of so many dispatches."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind.out"
        subprocess.run(
            [
                *("valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}"),
                *("--compress-strings=no", str(bench), "--once", str(dispatches)),
            ],
            check=True,
        )
        return own_instructions(out.read_text())


def own_instructions(profile: str) -> int:
    """Self cost of FUNCTION in callgrind's text format, whose calls carry the callee's cost in the
    line that follows them.
    """
    total, inside, called = 0, False, False
    for line in profile.splitlines():
        if line.startswith("fn="):
            inside = line.startswith(f"fn={FUNCTION}")
        elif line.startswith("calls="):
            called = True
        elif re.match(r"[+*-]?\d*\s", line):
            total += int(line.split()[1]) if inside and not called else 0
            called = False
    return total


def main() -> None:
    if shutil.which("valgrind") is None:
        print("instructions are not counted: no valgrind here (Debian: apt install valgrind)")
        return
    bench = built("npu_bench_metal")
    few, many = counted(bench, FEW), counted(bench, MANY)
    if few == 0:
        sys.exit(f"instructions.py: callgrind saw no {FUNCTION}...): has it been renamed?")
    found = {"per_dispatch": (many - few) / (MANY - FEW), "once": few * MANY - many * FEW}
    found["once"] /= MANY - FEW
    if "--json" in sys.argv:
        print(json.dumps(found))
    else:
        print(
            f"{found['per_dispatch']:.1f} instructions a dispatch, {found['once']:.0f} once a run"
        )


if __name__ == "__main__":
    main()
