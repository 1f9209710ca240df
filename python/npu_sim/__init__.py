"""npu_sim: the front door of the NPU simulation. Command line, models, benchmarks."""

from __future__ import annotations


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("npu-sim")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
