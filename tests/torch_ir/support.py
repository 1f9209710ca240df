"""What the torch_ir tests share: one differential check of a model against its IR."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from torch_ir import (
    IR,
    IRExecutor,
    deserialize_ir,
    extract_ir,
    serialize_ir,
    validate_ir,
    verify_ir_with_state_dict,
)

__all__ = ["assert_same", "check_model", "ops_of"]


def assert_same(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Assert that two tensors are identical, dtype included, NaN equal to NaN."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


def ops_of(ir: IR) -> list[str]:
    """Return the op types of an IR in order."""
    return [node.op_type for node in ir.nodes]


def _call(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def check_model(model: nn.Module, inputs: Any) -> IR:
    """Extract, write, read back, validate, execute: every output must be bitwise that of eager.

    The model, its weights and the inputs must come out unchanged. Returns the IR as read back.
    """
    before = copy.deepcopy(model.state_dict())
    given = copy.deepcopy(inputs)
    ir = extract_ir(model, inputs)
    read = deserialize_ir(serialize_ir(ir))
    assert read == ir
    assert serialize_ir(read) == serialize_ir(ir)
    validate_ir(read, check_shapes=True)

    outputs = IRExecutor(read, weights=model.state_dict()).execute(inputs)
    valid, report = verify_ir_with_state_dict(read, model.state_dict(), model, inputs, 0, 0)
    assert valid, report
    for key, value in model.state_dict().items():
        assert_same(value, before[key])
    for left, right in zip(pytree.tree_leaves(inputs), pytree.tree_leaves(given), strict=True):
        if isinstance(left, torch.Tensor):
            assert_same(left, right)

    with torch.no_grad():
        expected = _call(copy.deepcopy(model), given)
    tensors = [leaf for leaf in pytree.tree_leaves(expected) if isinstance(leaf, torch.Tensor)]
    assert len(tensors) == len(outputs)
    for output, tensor in zip(outputs, tensors, strict=True):
        assert_same(output, tensor)
    return read
