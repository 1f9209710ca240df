"""Model definitions that need torch; nothing is imported before it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from npu_sim.models.images import random_images
    from npu_sim.models.resnet import ResNet, resnet18, resnet34, resnet50, resnet101, resnet152
    from npu_sim.models.trained_like import trained_like

__all__ = [
    "ResNet",
    "random_images",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "trained_like",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = {"random_images": "images", "trained_like": "trained_like"}.get(name, "resnet")
    # Importing the submodule `trained_like` binds its name here, and the function must win.
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
