"""Linear layers with int8 weights: the numbers of the quantised model, and the error reported."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import npu_compiler
from npu_compiler.errors import CompileOptionError
from npu_runtime import quantization_errors
from tests.npu_compiler.harness import TOLERANCE, compare, images, ir_of, run, to_numpy
from tests.npu_compiler.test_streamed_linears import Block


def quantized(weight: torch.Tensor) -> torch.Tensor:
    """What int8 with a scale per row makes of a weight."""
    scale = weight.abs().amax(-1, keepdim=True) / 127
    return torch.where(scale > 0, torch.round(weight / scale), 0) * scale


def quantize(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for child in module.modules():
            if isinstance(child, nn.Linear):
                child.weight.copy_(quantized(child.weight))
    return module


@pytest.mark.parametrize("rows", [1, 5, 70])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_block_computes_with_the_quantised_weights(rows: int, dtype: str) -> None:
    block = Block(bias=True)
    with torch.no_grad():
        # Channels of very different size, and one of zeros.
        block.gate.weight.mul_(torch.logspace(-3, 2, 40)[:, None])
        block.down.weight[3] = 0
    x = images(rows, 24)
    result = run(block, x, compute_dtype=dtype, weight_dtype="int8")
    assert set(result.kernels) == {"linear"}
    assert {c.operands[2].dtype for c in result.program.kernel_calls if c.operands[2]} == {"int8"}
    with torch.no_grad():
        expected = to_numpy(quantize(block)(x))
    for (actual,) in result.by_device.values():
        compare(actual, expected, TOLERANCE[dtype])


def test_the_error_is_reported() -> None:
    block = Block()
    state = {name: to_numpy(tensor) for name, tensor in block.state_dict().items()}
    program = npu_compiler.compile(ir_of(block, [images(2, 24)]), weight_dtype="int8")
    found = quantization_errors(state, program)
    assert [row.rows for row in found] == [80, 24]
    whole = torch.cat([block.gate.weight, block.up.weight]).detach()
    error = (quantized(whole) - whole).square().mean().sqrt() / whole.square().mean().sqrt()
    assert found[0].relative == pytest.approx(error.item(), rel=1e-4)
    assert found[0].sqnr_db == pytest.approx(-20 * math.log10(error.item()), rel=1e-4)
    # Uniform weights: steps of max / 127, so that about 38 + 6 dB stay.
    assert all(35 < row.sqnr_db < 55 for row in found)
    sampled = quantization_errors(state, program, max_rows=10)
    assert [row.rows for row in sampled] == [20, 8]
    plain = npu_compiler.compile(ir_of(block, [images(2, 24)]))
    assert quantization_errors(state, plain) == []


def test_weights_that_are_not_finite_are_refused() -> None:
    block = Block()
    with torch.no_grad():
        block.down.weight[0, 0] = np.nan
    with pytest.raises(Exception, match=r"down\.weight.*finite"):
        run(block, images(1, 24), weight_dtype="int8")


def test_unknown_weight_dtypes_are_refused() -> None:
    with pytest.raises(CompileOptionError, match="int4"):
        npu_compiler.compile(ir_of(Block(), [images(1, 24)]), weight_dtype="int4")
