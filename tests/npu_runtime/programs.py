"""Small models for the runtime's tests: compiled once, with the weights and results of PyTorch."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import npu_compiler
from npu_compiler.compiled_program import CompiledProgram
from torch_ir import extract_ir


class SmallNet(nn.Module):
    """A convolution with BatchNorm, a residual, pooling and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, 10)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.conv2(x) + x)
        return self.fc(x.mean((2, 3)))


class TwoInTwoOut(nn.Module):
    """Two inputs, two outputs, no weights."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(4, 6) twice -> sum and product."""
        return a + b, a * b


@dataclass(frozen=True)
class Case:
    """A program, its weights, and inputs with the outputs that PyTorch computes."""

    program: CompiledProgram
    state_dict: dict[str, torch.Tensor]
    inputs: tuple[np.ndarray, ...]
    expected: tuple[np.ndarray, ...]


def build(model: nn.Module, *inputs: torch.Tensor, dtype: str = "float16") -> Case:
    """Compile a model; inputs are its example inputs too."""
    model = model.eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    program = npu_compiler.compile(
        extract_ir(model, inputs, model_name=type(model).__name__), compute_dtype=dtype
    )
    with torch.no_grad():
        results: Any = model(*inputs)
    if isinstance(results, torch.Tensor):
        results = (results,)
    return Case(
        program,
        {k: v.clone() for k, v in model.state_dict().items()},
        tuple(i.numpy() for i in inputs),
        tuple(r.numpy() for r in results),
    )


@functools.cache
def small_net(dtype: str = "float16", batch: int = 2) -> Case:
    """SmallNet on 12x12 images."""
    torch.manual_seed(0)
    return build(SmallNet(), torch.randn(batch, 3, 12, 12), dtype=dtype)


@functools.cache
def two_in_two_out() -> Case:
    """TwoInTwoOut in float32, where it is exact."""
    torch.manual_seed(1)
    return build(TwoInTwoOut(), torch.randn(4, 6), torch.randn(4, 6), dtype="float32")
