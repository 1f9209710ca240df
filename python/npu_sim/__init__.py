"""npu_sim: the front door of the NPU simulation. Command line, models, benchmarks."""

from __future__ import annotations


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("npu-sim")
        except PackageNotFoundError:
            # Imported from a source tree that no pip has seen.
            return "0+uninstalled"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
