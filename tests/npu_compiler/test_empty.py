"""Zero-sized and 0-d tensors are legal everywhere; what would write nothing is not dispatched."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from tests.npu_compiler.harness import Function, check, images

CASES: dict[str, tuple[Callable[[torch.Tensor], object], tuple[int, ...], int]] = {
    "sum_of_an_empty_result": (lambda x: F.relu(x[:, :0]).sum(1), (2, 5, 3, 4), 1),
    "empty_batch": (lambda x: F.max_pool2d(F.relu(x), 2), (0, 5, 4, 4), 0),
    "empty_channels": (lambda x: F.relu(x) + 1, (2, 0, 4, 4), 0),
    "product_of_nothing": (lambda x: x[:, :0] @ x[:0], (4, 4), 1),
    "one_empty_output": (lambda x: (x[:0] * 2, x * 3), (4, 4), 1),
    "scalars": (lambda x: x * 2 + x.sum(), (), 1),
    "cat_of_empties": (lambda x: torch.cat([x[:0], x[:0]]) * 2, (3, 4), 0),
}


@pytest.mark.parametrize("name", CASES)
def test_empty(name: str) -> None:
    function, shape, dispatches = CASES[name]
    result = check(Function(function), images(*shape))
    assert len(result.kernels) == dispatches
    empty = [b for b in result.program.buffer_allocations if 0 in b.alloc_shape]
    assert all(b.size_bytes == 0 for b in empty)
