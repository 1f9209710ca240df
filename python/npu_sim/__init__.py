"""npu_sim: the front door of the NPU simulation. Command line, models, benchmarks, verification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from npu_sim.verification import verify

__all__ = ["verify"]


def __getattr__(name: str) -> Any:
    if name == "verify":
        from npu_sim.verification import verify

        return verify
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("npu-sim")
        except PackageNotFoundError:
            # Imported from a source tree that no pip has seen.
            return "0+uninstalled"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
