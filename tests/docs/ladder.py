"""The table of docs/metal.md that says which steps of evidence each shader has passed.

``python -m tests.docs.ladder`` writes it. What stands in the columns is held by tests that go
through all shaders (1, 3 compiled, 5), all kernels (2, 4) and all schedules (2, 3 run, 4).
"""

from __future__ import annotations

import sys
from pathlib import Path

from npu_compiler.kernels import KERNELS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metal.md"
BEGIN, END = "<!-- shaders: begin -->\n", "<!-- shaders: end -->\n"
# What has changed since it ran on an NVIDIA GPU (`make test-gpu`), or has not run there at all.
NOT_RUN_ON_A_GPU: frozenset[str] = frozenset()
_HEAD = (
    "| shader | runs | 1 front end | 2 reference | 3 NVRTC | 3 NVIDIA GPU | 4 stand-in | 5 wheel "
    "| 6 Mac |\n|---|---|---|---|---|---|---|---|---|\n"
)


def launches() -> dict[str, list[str]]:
    """By shader file: kernels, and schedules as ``kernel (schedule)``."""
    found: dict[str, list[str]] = {}
    for kernel in KERNELS.values():
        found.setdefault(kernel.shader, []).append(kernel.name)
        for schedule in kernel.schedules:
            label = f"{kernel.name} ({schedule.name})"
            found.setdefault(schedule.shader, []).append(label)
    return found


def table() -> str:
    """The table as Markdown."""
    rows = []
    for shader, names in sorted(launches().items()):
        left = [name for name in names if name in NOT_RUN_ON_A_GPU]
        on_gpu = f"but {', '.join(left)}" if left else "yes"
        rows.append(
            f"| {shader} | {', '.join(names)} | yes | yes | yes | {on_gpu} | yes | yes | |\n"
        )
    return _HEAD + "".join(rows)


def page() -> str:
    """The page with its table brought up to date."""
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + table() + END + tail


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.exit(0)
