"""The verifier's generated rules, grids and flop counts agree with the kernel records' Python."""

from __future__ import annotations

import struct
from math import prod
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_compiler.dtypes import BY_SHORT
from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.record import Kernel, KernelRuleError
from npu_compiler.program.schema import NONE
from npu_runtime import _native
from npu_runtime.errors import ProgramError
from tests.runtime_native.npubin_builder import Builder

# Register programs have rules of their own, see test_verify_rules.py.
PLAIN = [k for k in KERNELS.values() if k.name not in ("elementwise", "map_reduce")]
SIZES = st.sampled_from([1, 1, 1, 2, 2, 3, 4])
NUMBERS = st.sampled_from([0, 1, 1, 1, 2, 2, 3, 65535, 65536, (1 << 31) - 1])


def program_of(kernel: Kernel, shapes: dict[str, Any], fields: dict[str, Any]) -> bytes:
    """A program of one dispatch; every operand has a buffer of its own."""
    b = Builder()
    ios: dict[str, list[tuple[str, int]]] = {"input": [], "output": []}
    views = {}
    for o in kernel.operands:
        shape = shapes[o.name]
        if shape is None:
            continue
        kind = "output" if o.access == "write" else "input"
        dtype = o.dtype if o.dtype in BY_SHORT else "f32"
        size = BY_SHORT[dtype].size * prod(shape)
        tensor = b.tensor(o.name, b.buffer(o.name, kind, size), shape, dtype)
        views[o.name] = b.view(tensor, shape)
        ios[kind].append((o.name, tensor))
    b.dispatch("only", kernel.name, views, fields)
    for name, tensor in (*ios["input"], *ios["output"]):
        b.add("IOS", name=name, tensor=tensor, donor=NONE)
    counts = len(ios["input"]), len(ios["output"])
    b.add(
        "ENTRY_POINTS", name="main", dispatch_count=1, input_count=counts[0],
        output_first=counts[0], output_count=counts[1],
    )  # fmt: skip
    return b.build()


@pytest.mark.parametrize("kernel", PLAIN, ids=lambda k: k.name)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_the_first_broken_rule_is_the_same(kernel: Kernel, data: st.DataObject) -> None:
    # One size per axis name, so that most rules hold, and sometimes another one.
    common: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...] | None] = {}
    for o in kernel.operands:
        sizes = tuple(
            common.setdefault(a, data.draw(SIZES))
            if data.draw(st.integers(0, 9))
            else data.draw(SIZES)
            for a in o.axes
        )
        shapes[o.name] = None if o.optional and data.draw(st.booleans()) else sizes
    fields = {f.name: data.draw(NUMBERS) for f in kernel.fields}
    broken = ""
    try:
        env = kernel.check(shapes, fields)
    except KernelRuleError as error:
        broken = str(error).split("'")[1]
    else:
        if 0 in kernel.grid(env):
            return
    try:
        bytes_ = program_of(kernel, shapes, fields)
    except (ArithmeticError, ValueError, struct.error):
        # A launch rule has no value where an earlier rule is broken (groups == 0).
        assert broken
        return
    if not broken:
        _native.Program.from_bytes(bytes_)
        return
    with pytest.raises(ProgramError) as caught:
        _native.Program.from_bytes(bytes_)
    assert f"rule '{broken}'" in str(caught.value)
