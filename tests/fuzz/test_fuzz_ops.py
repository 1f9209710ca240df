"""Every op record against PyTorch, with drawn shapes, strides, dtypes, batches and attributes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from npu_compiler import get_supported_ops
from npu_compiler.ops import find_op
from tests.fuzz.builder import RejectedError
from tests.fuzz.draw import HypothesisDraw
from tests.fuzz.ops import CASES_PER_OP, check_sample

OPS = sorted(get_supported_ops())


@pytest.mark.parametrize("op_type", OPS)
def test_op(op_type: str) -> None:
    record = find_op(op_type)
    assert record is not None
    passed = 0

    @settings(
        max_examples=CASES_PER_OP,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def sample(data: st.DataObject) -> None:
        nonlocal passed
        try:
            check_sample(record, HypothesisDraw(data))
        except RejectedError:
            assume(False)
        passed += 1

    sample()
    assert passed >= CASES_PER_OP, f"only {passed} cases: its generator is rejected too often"
