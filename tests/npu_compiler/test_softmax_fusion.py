"""Scaled and masked softmax written out: what becomes one dispatch, and what must not."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from tests.npu_compiler.harness import images
from tests.npu_compiler.test_pattern_fusions import optimized

MASKED_SOFTMAX = "npu.masked_softmax.default"
SCORES = (2, 3, 5, 9)
KEEP = images(1, 1, 5, 9, seed=4) > -0.5


@pytest.mark.parametrize(
    ("function", "masks"),
    [
        (lambda x: torch.softmax(x * 0.25, -1), ()),
        (lambda x: torch.softmax(x / 3.0, 1), ()),
        (lambda x, m: torch.softmax(x / 3.0 + m, -1), (images(5, 9, seed=2) * 4,)),
        (lambda x, m: torch.softmax(m + x, -1), (images(2, 1, 1, 9, seed=2),)),
        (lambda x, k: torch.softmax((x * 2).masked_fill(~k, -math.inf), -1), (KEEP,)),
        (lambda x, k: torch.softmax(torch.where(k, x, -math.inf), -1), (KEEP,)),
    ],
    ids=["scaled", "divided", "added", "added_first", "masked_fill", "where"],
)
def test_a_scaled_and_masked_softmax_is_one_dispatch(
    function: Callable[..., torch.Tensor], masks: tuple[torch.Tensor, ...]
) -> None:
    found = optimized(function, images(*SCORES), *masks)
    assert found[-1] == MASKED_SOFTMAX
    assert len(found) == 1 or found == ["aten.logical_not.default", MASKED_SOFTMAX]


@pytest.mark.parametrize(
    ("function", "masks"),
    [
        # A bool that is added is 0 or 1, and hides nothing.
        (lambda x, k: torch.softmax(x + k, -1), (KEEP,)),
        # Hidden by a number other than -inf.
        (lambda x, k: torch.softmax(torch.where(k, x, -3.0), -1), (KEEP,)),
        # The scores broadcast, too.
        (lambda x, m: torch.softmax(x + m, -1), (images(4, 1, 1, 1, 1, seed=2),)),
        (lambda x, m: torch.softmax(torch.add(x, m, alpha=2), -1), (images(9, seed=2),)),
    ],
    ids=["bool", "number", "broadcast", "alpha"],
)
def test_what_only_looks_like_a_masked_softmax_stays(
    function: Callable[..., torch.Tensor], masks: tuple[torch.Tensor, ...]
) -> None:
    assert MASKED_SOFTMAX not in optimized(function, images(*SCORES), *masks)
