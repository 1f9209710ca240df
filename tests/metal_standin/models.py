"""A model whose dispatches depend on each other in several ways, and how to run it on a device."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn

import npu_compiler
from npu_compiler.compiled_program import CompiledProgram
from npu_runtime.device import Device
from npu_runtime.executor import Executor
from npu_runtime.weight_loader import load_weights
from tests.npu_compiler.harness import ir_of, to_numpy, trained_like


class Chain(nn.Module):
    """Intermediates that are read later, read twice, and whose memory is used again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.block = nn.Conv2d(8, 8, 3, 1, 1)
        self.head = nn.Linear(16, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, 6)."""
        x = torch.relu(self.norm(self.stem(x)))
        y = torch.softmax(self.block(x), 1)
        joined = torch.cat([y, nn.functional.avg_pool2d(x, 3, 1, 1)], 1)
        return torch.softmax(self.head(joined.mean((2, 3))), 1)


@functools.cache
def chain() -> tuple[CompiledProgram, dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Program, weights, input and what PyTorch makes of it."""
    torch.manual_seed(5)
    module = trained_like(Chain())
    x = torch.randn(2, 3, 10, 10)
    with torch.no_grad():
        expected = module(x).numpy()
    program = npu_compiler.compile(ir_of(module, [x]), compute_dtype="float32")
    return program, {k: to_numpy(v) for k, v in module.state_dict().items()}, x.numpy(), expected


def run_chain(device: Device) -> np.ndarray:
    """What the device makes of it, in memory that nothing else has used."""
    program, state, x, _ = chain()
    executor = Executor(program, device)
    weights = load_weights(state, program, device, strict=False)
    (result,) = executor.run({program.input_specs[0].name: x}, weights).values()
    return result.to_numpy().copy()


def is_right(result: np.ndarray) -> bool:
    """Whether it is what PyTorch computes."""
    return np.allclose(result, chain()[3], rtol=1e-4, atol=1e-6)
