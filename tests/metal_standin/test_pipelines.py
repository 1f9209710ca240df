"""Pipelines: parameters fixed when a program is loaded, equal dispatches sharing one."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

import npu_compiler
from npu_runtime.device import Device
from npu_runtime.errors import DeviceError
from npu_runtime.executor import Executor
from tests.metal_standin.models import chain, is_right, run_chain
from tests.metal_standin.standin import Standin
from tests.metal_standin.test_ops import run
from tests.npu_compiler.harness import ir_of

FIX = "MTLFunctionConstantValues setConstantValues:type:withRange:"
CONSTANTS = "MTLFunctionConstantValues alloc"
LIBRARY = "MTLDevice newLibraryWithSource:options:error:"


def _layers(widths: list[int]) -> npu_compiler.CompiledProgram:
    """Linear layers, each followed by tanh."""
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.Tanh())]
    return npu_compiler.compile(ir_of(nn.Sequential(*layers).eval(), [torch.randn(3, widths[0])]))


def test_every_parameter_is_fixed(standin: Standin, metal: Device) -> None:
    # The stand-in compares them with what each dispatch's parameters hold.
    assert is_right(run_chain(metal))
    assert standin.messages(FIX) == standin.messages(CONSTANTS) == standin.compilations()
    assert 0 < standin.compilations() <= len(chain()[0].kernel_calls)


def test_parameters_that_are_not_fixed_are_read(standin: Standin, metal: Device) -> None:
    standin.leave_out(FIX)
    assert is_right(run_chain(metal))


def test_equal_dispatches_share_a_pipeline(standin: Standin, metal: Device) -> None:
    loaded = [Executor(_layers([24] * 9), metal)]
    once = standin.compilations()
    assert once < len(loaded[0].program.kernel_calls)
    loaded.append(Executor(_layers([24] * 3), metal))
    assert standin.compilations() == once
    libraries = standin.messages(LIBRARY)
    loaded.append(Executor(_layers([24, 40]), metal))
    assert standin.compilations() > once
    assert standin.messages(LIBRARY) == libraries


class Lengths(nn.Module):
    """The same of 140 lengths."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(140,) -> (1,), (2,) and so on."""
        return [torch.cumsum(x[:n], 0) for n in range(1, 141)]


def test_very_many_sets_of_parameters_are_not_all_compiled(standin: Standin, metal: Device) -> None:
    result = run(metal, Lengths(), torch.randn(140), dtype="float32")
    assert len(result.kernels) == 140
    assert standin.compilations() == 129


def test_elementwise_programs_are_compiled(
    standin: Standin, metal: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(kernel: str, width: int) -> bool:
        with standin.changed(failing_kernel=kernel):
            try:
                run(standin.device(), Products(), torch.randn(3, width), dtype="float32")
            except DeviceError:
                return True
            return False

    assert failing("elementwise_0_x4", 8)
    assert failing("elementwise_0_x1", 7)
    assert not failing("elementwise", 8)
    monkeypatch.setenv("NPU_SIM_METAL_ELEMENTWISE", "0")
    assert failing("elementwise", 8)


def test_generated_text_that_does_not_compile(standin: Standin, metal: Device) -> None:
    standin.set(broken_shader="elementwise_program.h")
    match = r"kernel elementwise_0_x\d does not compile.*1:1: error.*NPU_SIM_METAL_ELEMENTWISE=0"
    with pytest.raises(DeviceError, match=match):
        run_chain(metal)


class Products(nn.Module):
    """One elementwise program."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape -> the same."""
        return torch.tanh(x) * x


def test_a_load_that_failed_is_made_good(standin: Standin, metal: Device) -> None:
    standin.set(max_threads=16)
    with pytest.raises(DeviceError, match="wants threadgroups"):
        run_chain(metal)
    standin.reset()
    assert is_right(run_chain(metal))
