"""Convolutions inside models: how many dispatches they take, parametrised weights, refusals."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import npu_compiler
from npu_compiler.errors import ConstraintError
from tests.npu_compiler.harness import Function, check, images, ir_of, trained_like


def test_transposed_convolution_is_one_convolution_per_phase() -> None:
    layer = nn.ConvTranspose2d(5, 7, 4, 2, 1)
    result = check(layer, images(2, 5, 6, 6))
    assert result.kernels == ["conv2d"] * 4
    # No multiplication by inserted zeros: the taps of all phases are the kernel's 16.
    calls = result.program.kernel_calls
    padded = calls[0].operands[-1].shape[1]
    assert sum(c.flops for c in calls) == 2 * 2 * 6 * 6 * padded * 5 * 16


def test_phases_that_no_tap_reaches_are_bias() -> None:
    result = check(nn.ConvTranspose1d(3, 4, 1, stride=3), images(2, 3, 5))
    assert result.kernels == ["conv2d", "elementwise", "elementwise"]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_batch_norm_and_relu_join_other_convolutions(dtype: str) -> None:
    chains = (
        (nn.Conv1d(5, 20, 3), nn.BatchNorm1d(20), images(2, 5, 9), 1),
        (nn.ConvTranspose2d(6, 20, 3, 2), nn.BatchNorm2d(20), images(2, 6, 4, 5), 4),
        (nn.ConvTranspose1d(5, 20, 4, 2), nn.BatchNorm1d(20), images(2, 5, 9), 2),
    )
    for conv, norm, x, dispatches in chains:
        model = trained_like(nn.Sequential(conv, norm, nn.ReLU()))
        result = check(model, x, compute_dtype=dtype)
        assert result.kernels == ["conv2d"] * dispatches


def test_batch_norm_over_unbatched_rows_is_not_folded() -> None:
    # The convolution's result (channels, length) is a batch of rows to the BatchNorm.
    model = trained_like(nn.Sequential(nn.Conv1d(3, 6, 1), nn.BatchNorm1d(6)))
    check(model, images(3, 6))


def test_a_chain_of_1d_convolutions_copies_its_input_once() -> None:
    layers = [nn.Conv1d(20, 30, 3, padding=1), nn.ReLU(), nn.Conv1d(30, 40, 3), nn.ReLU()]
    result = check(nn.Sequential(*layers), images(2, 20, 12))
    assert result.kernels.count("conv2d") == 2
    assert result.copies == 1


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(5, 7, 3), (2, 5, 6, 6)),
        (nn.Conv1d(20, 7, 3), (2, 20, 6)),
        (nn.ConvTranspose1d(20, 7, 4, 2), (2, 20, 6)),
        (nn.Linear(5, 7), (3, 5)),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_weights_that_are_computed(layer: nn.Module, shape: tuple[int, ...]) -> None:
    class Scaled(nn.Module):
        """Weight normalisation written out."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = layer
            self.gain = nn.Parameter(torch.rand(layer.weight.shape[0]) + 0.5)

        def forward(self, x: torch.Tensor) -> Any:
            weight: Any = self.layer.weight
            dims = tuple(range(1, weight.ndim))
            norm = (weight * weight).sum(dims, keepdim=True).sqrt()
            scaled = self.gain.reshape(-1, *([1] * len(dims))) * weight / norm
            bias: Any = self.layer.bias
            match self.layer:
                case nn.Conv2d():
                    return F.conv2d(x, scaled, bias)
                case nn.Conv1d():
                    return F.conv1d(x, scaled, bias)
                case nn.ConvTranspose1d():
                    return F.conv_transpose1d(x, scaled, bias, 2)
                case _:
                    return F.linear(x, scaled, bias)

    check(Scaled(), images(*shape))


@pytest.mark.parametrize(
    ("layer", "shape", "dim", "kernels"),
    [
        (nn.Conv2d(5, 7, 3), (2, 5, 6, 6), 0, ["conv2d"]),
        (nn.Conv1d(8, 8, 3, groups=2, bias=False), (2, 8, 6), 2, ["conv2d"]),
        (nn.ConvTranspose1d(5, 7, 4, 2), (2, 5, 6), 0, ["conv2d", "conv2d"]),
        (nn.Linear(5, 7), (3, 5), None, ["gemm"]),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_weight_norm_costs_nothing_in_a_run(
    layer: nn.Module, shape: tuple[int, ...], dim: int | None, kernels: list[str], dtype: str
) -> None:
    module = nn.utils.parametrizations.weight_norm(copy.deepcopy(layer), dim=dim)
    result = check(module, images(*shape), compute_dtype=dtype)
    assert result.kernels == kernels
    # The only weights on the device are the layer's own.
    assert len({s.name.removesuffix(".2") for s in result.program.weight_specs}) <= 2


def test_3d_convolution_is_refused_with_its_weight() -> None:
    with pytest.raises(npu_compiler.CompilerError, match="conv_transpose3d"):
        npu_compiler.compile(ir_of(nn.ConvTranspose3d(2, 3, 3), [images(1, 2, 5, 5, 5)]))
    function = Function(
        lambda m, x: torch.ops.aten.convolution.default(
            x, m.w, None, [1] * 3, [0] * 3, [1] * 3, False, [0] * 3, 1
        ),
        w=images(3, 2, 3, 3, 3),
    )
    with pytest.raises(ConstraintError, match="3-D convolution is not supported"):
        npu_compiler.compile(ir_of(function, [images(1, 2, 5, 5, 5)]))
