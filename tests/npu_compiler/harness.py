"""Compiles PyTorch modules, runs them on the numpy device and compares with PyTorch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import nn

import npu_compiler
from npu_compiler.compiled_program import CompiledProgram
from tests.npu_compiler.numpy_device import NumpyDevice
from torch_ir import extract_ir

# Largest error relative to the largest magnitude of the reference. float32: sums in another order.
# float16 and bfloat16: one rounding (2**-11, 2**-8) per tensor in memory, accumulated over a few
# layers.
TOLERANCE = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 4e-2}


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A numpy array, bfloat16 as ml_dtypes' type."""
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


class Function(nn.Module):
    """A module that computes a function, with tensors as buffers."""

    def __init__(self, function: Callable[..., Any], **buffers: torch.Tensor) -> None:
        super().__init__()
        self.function = function
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def forward(self, *args: torch.Tensor) -> Any:
        return self.function(self, *args) if self._buffers else self.function(*args)


def trained_like(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights with BatchNorm statistics away from 0 and 1; eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            n = child.num_features
            child.running_mean.copy_(torch.randn(n, generator=generator) * 0.5)
            child.running_var.copy_(torch.rand(n, generator=generator) * 2 + 0.3)
            if child.affine:
                with torch.no_grad():
                    child.weight.copy_(torch.rand(n, generator=generator) + 0.5)
                    child.bias.copy_(torch.randn(n, generator=generator) * 0.3)
    return module.eval()


@dataclass
class Result:
    """A program, what it computed, and what PyTorch did."""

    program: CompiledProgram
    outputs: list[np.ndarray]
    expected: list[np.ndarray]
    ir: dict[str, Any]

    @property
    def kernels(self) -> list[str]:
        """Kernel names in order."""
        return [call.kernel_name for call in self.program.kernel_calls]

    @property
    def copies(self) -> int:
        """Dispatches that only move data."""
        return int(self.program.metadata["copies"])


def ir_of(module: nn.Module, inputs: Sequence[torch.Tensor]) -> dict[str, Any]:
    """The IR as a dict that has been through JSON."""
    ir = extract_ir(module, tuple(inputs), model_name=type(module).__name__)
    return json.loads(json.dumps(ir.to_dict()))


def run(
    module: nn.Module, *inputs: torch.Tensor, compute_dtype: str | None = "float32", **options: Any
) -> Result:
    """Compile, run and return without comparing."""
    module = module.eval()
    with torch.no_grad():
        ir = ir_of(module, inputs)
        expected = module(*(t.clone() for t in inputs))
    expected = [expected] if isinstance(expected, torch.Tensor) else list(expected)
    program = npu_compiler.compile(ir, compute_dtype=compute_dtype, **options)
    state = {k: to_numpy(v) for k, v in module.state_dict().items()}
    device = NumpyDevice(program.to_bytes(), state)
    names = [spec.name for spec in device.program.input_specs]
    results = device.run(dict(zip(names, map(to_numpy, inputs), strict=True)))
    outputs = [results[spec.name] for spec in device.program.output_specs]
    return Result(program, outputs, [to_numpy(t) for t in expected], ir)


def compare(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Equal shape, dtype, NaNs and infinities; the rest within ``tolerance`` of the largest
    magnitude.
    """
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    assert np.array_equal(np.isnan(a), np.isnan(e)), "NaN in other places"
    infinite = np.isinf(e)
    assert np.array_equal(a[infinite], e[infinite]), "infinities in other places"
    finite = np.isfinite(e)
    if not finite.any():
        return
    error = np.abs(a[finite] - e[finite]).max()
    scale = max(np.abs(e[finite]).max(), 1e-3)
    assert error <= tolerance * scale, f"error {error:.3g} for values up to {scale:.3g}"


def check(
    module: nn.Module, *inputs: torch.Tensor, compute_dtype: str | None = "float32", **options: Any
) -> Result:
    """Compile, run, and compare every output with PyTorch's."""
    result = run(module, *inputs, compute_dtype=compute_dtype, **options)
    assert len(result.outputs) == len(result.expected)
    tolerance = TOLERANCE[result.program.compute_dtype]
    for actual, expected in zip(result.outputs, result.expected, strict=True):
        compare(actual, expected, tolerance)
    return result


def images(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    """Normally distributed values."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale
