"""Compiles PyTorch modules, runs them on every device of this machine and compares with PyTorch.

Outputs are written over poison, and their padding is read back; the reference device also poisons
the arena and checks every access, and runs small programs in both thread orders.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

import npu_compiler
from npu_compiler.compiled_program import CompiledProgram
from npu_runtime import _native
from npu_runtime.device import Device, available_devices
from npu_runtime.executor import Executor
from npu_runtime.weight_loader import load_weights
from tests.npu_compiler.comparison import TOLERANCE, check_padding, compare
from torch_ir import extract_ir

DEVICES = available_devices()
# The reference device again, its threads in reverse order: a kernel whose result depends on the
# order has a race.
REVERSE = "reference, reverse"
# Programs of at most so many threads run in both orders.
REVERSE_LIMIT = 20_000
POISON = 0xFF
opened: dict[str, Device] = {}


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
    """A program, what it computed on each device, and what PyTorch did."""

    program: CompiledProgram
    by_device: dict[str, list[np.ndarray]]
    expected: list[np.ndarray]
    ir: dict[str, Any]

    @property
    def outputs(self) -> list[np.ndarray]:
        """The outputs on the first device."""
        return next(iter(self.by_device.values()))

    @property
    def kernels(self) -> list[str]:
        """Kernel names in order."""
        return [call.kernel_name for call in self.program.kernel_calls]

    @property
    def copies(self) -> int:
        """Dispatches that only move data."""
        return int(self.program.metadata["copies"])


def open_device(kind: str) -> Device:
    """A device by kind, or the one called REVERSE."""
    if kind not in opened:
        opened[kind] = _reversed_reference() if kind == REVERSE else Device(kind)
    return opened[kind]


def _reversed_reference() -> Device:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NPU_SIM_REFERENCE_ORDER", "reverse")
        device = object.__new__(Device)
        device._native = _native.Device("reference")
    return device


def with_orders(program: CompiledProgram, devices: Sequence[str]) -> list[str]:
    """``devices``, and REVERSE behind them where the reference device is there and has little to
    do.
    """
    threads = sum(prod(call.grid) * prod(call.threadgroup) for call in program.kernel_calls)
    both = "reference" in devices and threads <= REVERSE_LIMIT
    return [*devices, REVERSE] if both else list(devices)


def execute(
    program: CompiledProgram,
    inputs: Mapping[str, np.ndarray],
    state: Mapping[str, np.ndarray],
    device: Device,
) -> list[np.ndarray]:
    """Run a program once; its outputs in order, each written over poison, with zero padding."""
    executor = Executor(program, device)
    weights = load_weights(state, program, device, strict=False)
    for pool in executor._pools:
        memory = pool.take()
        memory.native.upload(0, np.full(memory.nbytes, POISON, np.uint8))
        # Given back, it is what the run takes.
        del memory
    results = executor.run(inputs, weights)
    for spec in program.output_specs:
        check_padding(spec, results[spec.name].memory.read())
    return [results[spec.name].to_numpy(spec=spec) for spec in program.output_specs]


def ir_of(module: nn.Module, inputs: Sequence[torch.Tensor]) -> dict[str, Any]:
    """The IR as a dict that has been through JSON."""
    ir = extract_ir(module, tuple(inputs), model_name=type(module).__name__)
    return json.loads(json.dumps(ir.to_dict()))


@dataclass
class Prepared:
    """A compiled module with all that running it takes, and what PyTorch makes of it."""

    program: CompiledProgram
    inputs: dict[str, np.ndarray]
    state: dict[str, np.ndarray]
    expected: list[np.ndarray]
    ir: dict[str, Any]


def prepare(
    module: nn.Module,
    *inputs: torch.Tensor,
    compute_dtype: str | None = "float32",
    **options: Any,
) -> Prepared:
    """Compile, and run in PyTorch."""
    module = module.eval()
    with torch.no_grad():
        ir = ir_of(module, inputs)
        expected = module(*(t.clone() for t in inputs))
    expected = [expected] if isinstance(expected, torch.Tensor) else list(expected)
    program = npu_compiler.compile(ir, compute_dtype=compute_dtype, **options)
    state = {k: to_numpy(v) for k, v in module.state_dict().items()}
    names = [spec.name for spec in program.input_specs]
    arrays = dict(zip(names, map(to_numpy, inputs), strict=True))
    return Prepared(program, arrays, state, [to_numpy(t) for t in expected], ir)


def run(
    module: nn.Module,
    *inputs: torch.Tensor,
    compute_dtype: str | None = "float32",
    devices: Sequence[str] = DEVICES,
    **options: Any,
) -> Result:
    """Compile, run and return without comparing."""
    made = prepare(module, *inputs, compute_dtype=compute_dtype, **options)
    outputs = {
        kind: execute(made.program, made.inputs, made.state, open_device(kind))
        for kind in with_orders(made.program, devices)
    }
    return Result(made.program, outputs, made.expected, made.ir)


def check(
    module: nn.Module,
    *inputs: torch.Tensor,
    compute_dtype: str | None = "float32",
    devices: Sequence[str] = DEVICES,
    **options: Any,
) -> Result:
    """Compile, run on every device, and compare every output with PyTorch's."""
    result = run(module, *inputs, compute_dtype=compute_dtype, devices=devices, **options)
    check_result(result)
    return result


def check_result(result: Result) -> None:
    """Compare what every device computed with PyTorch."""
    tolerance = TOLERANCE[result.program.compute_dtype]
    for kind, outputs in result.by_device.items():
        assert len(outputs) == len(result.expected)
        for slot, (actual, expected) in enumerate(zip(outputs, result.expected, strict=True)):
            try:
                compare(actual, expected, tolerance)
            except AssertionError as error:
                raise AssertionError(f"{kind}, output {slot}: {error}") from None


def images(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    """Normally distributed values."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale
