"""Roundings of every float16 and bfloat16: bit for bit PyTorch's, the sign of zeros included."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import npu_compiler
from tests.npu_compiler.harness import DEVICES, Function, execute, ir_of, open_device, to_numpy


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["f16", "bf16"])
@pytest.mark.parametrize("device", DEVICES)
def test_roundings_keep_the_sign_of_zero(dtype: torch.dtype, device: str) -> None:
    x = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int16).view(dtype)

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # Chains, too: -0 must survive between operations of one dispatch.
        return x.ceil(), x.round(), x.trunc(), x.floor(), x.frac(), x.ceil().neg(), -x.trunc().abs()

    program = npu_compiler.compile(ir_of(Function(forward).eval(), (x,)))
    (spec,) = program.input_specs
    found = execute(program, {spec.name: to_numpy(x)}, {}, open_device(device))
    for actual, expected in zip(found, map(to_numpy, forward(x)), strict=True):
        number = ~np.isnan(expected.astype(np.float32))
        assert np.array_equal(actual.view(np.int16)[number], expected.view(np.int16)[number])
