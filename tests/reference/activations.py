"""The activations of gemm and conv2d as PyTorch computes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from npu_compiler.kernels.activation import ACTIVATIONS

NAMES = sorted(ACTIVATIONS, key=lambda name: ACTIVATIONS[name])
FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda v: v,
    "gelu": F.gelu,
    "gelu_tanh": lambda v: F.gelu(v, approximate="tanh"),
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
}


def epilogue(
    activation: str = "none", clamp: tuple[float, float] = (-np.inf, np.inf)
) -> dict[str, int | float]:
    """The fields of gemm and conv2d that say what becomes of the sums."""
    return {"activation": ACTIVATIONS[activation], "clamp_lo": clamp[0], "clamp_hi": clamp[1]}
