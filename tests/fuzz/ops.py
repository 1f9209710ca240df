"""Samples of single operators: one call, its operands in random layouts, on every device."""

from __future__ import annotations

from npu_compiler.ops.record import OpRecord
from tests.fuzz import generators  # noqa: F401 (registers them)
from tests.fuzz.builder import Builder, Case
from tests.fuzz.check import check, compile_case
from tests.fuzz.draw import Draw
from tests.fuzz.registry import draw_call
from tests.fuzz.sampler import FLOATS, Sampler
from tests.fuzz.traits import UNINITIALISED, base_name
from tests.npu_compiler.harness import DEVICES

CASES_PER_OP = 20
# PyTorch's own result for infinite operands depends on the library that computes it.
TAME = frozenset({"gelu", "softplus", "mish"})


def draw_sample(record: OpRecord, draw: Draw) -> tuple[Case, str]:
    """A graph with one call of the operator, and the compute dtype. Raises RejectedError."""
    claimed = [d for d in FLOATS if d in record.dtypes] or ["float32"]
    float_dtype = draw.pick([claimed[0], *claimed])
    builder = Builder()
    sampler = Sampler(draw, builder, record, float_dtype)
    sampler.special = record.emit is not None and base_name(record.op_type) not in TAME
    results = draw_call(sampler)
    exact = False
    for value in builder.values:
        value.exact = value not in results or exact
    return builder.case(results), float_dtype


def check_sample(record: OpRecord, draw: Draw) -> Case:
    """Draw a sample and compare every device with PyTorch. Raises RejectedError, Mismatch."""
    case, compute_dtype = draw_sample(record, draw)
    if base_name(record.op_type) in UNINITIALISED:
        compile_case(case, compute_dtype)
    else:
        check(case, compute_dtype, DEVICES, orders=True)
    return case
