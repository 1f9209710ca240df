"""What a family is: a name, a kind, and how to build a small model of it with inputs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Inputs = dict[str, Any] | tuple[torch.Tensor, ...]
# Draws a value for every parameter and every running statistic; two families never share one.
SEED = 20


@dataclass(frozen=True)
class Family:
    """One row of the table.

    Attributes:
        kind: "cnn", "encoder", "decoder", "encoder-decoder", "vision", "audio", "moe",
            "state-space", "multimodal" or "time series".
        model: the class or function that the model is made of.
        make: returns the model, not yet initialised by `build`, and the arguments of a call.
        library: the package that the definition needs besides torch, if any.
        fast: part of the subset that runs with every `make test`.
        blocked: where torch.export itself cannot trace the model, a part of its error, and why.
        tolerance: relative and absolute difference from eager that is accepted; by default none.
    """

    name: str
    kind: str
    model: str
    make: Callable[[], tuple[nn.Module, Inputs]]
    library: str | None = None
    fast: bool = False
    blocked: tuple[str, str] | None = None
    tolerance: float = 0.0

    def missing(self) -> str | None:
        """Why the family cannot be built here, or None."""
        if self.library is None or importlib.util.find_spec(self.library) is not None:
            return None
        return f"{self.library} is not installed (pip install -c constraints.txt {self.library})"

    def build(self) -> tuple[nn.Module, Inputs]:
        """The model in eval mode with random weights, and inputs: the same ones at every call."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            model, inputs = self.make()
            randomise(model)
        # As in inference. Some ATen operators choose their algorithm, and so the last bit of their
        # results, by whether a weight requires gradients; those in a state_dict do not.
        return model.eval().requires_grad_(False), inputs


def randomise(model: nn.Module) -> None:
    """Move weights away from zeros and ones and give BatchNorm trained-like statistics."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.add_(0.02 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.2)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
