"""The verifier's rules for strings, buffers, tensors and weights: one fault per rule."""

from __future__ import annotations

import math

import pytest

from npu_compiler.program.schema import NONE
from tests.runtime_native.faults import (
    Mutation,
    both,
    check_fault,
    drop,
    item,
    parameters,
    put,
    raw,
)

STRINGS = [
    ("utf8", raw("STRINGS", 0, b"\xff"), "STRINGS: byte 0 is not UTF-8"),
    ("range", put("TENSORS", 0, name=(0, 1 << 20)), r"TENSORS\[0\]: name .* leaves the string"),
    ("huge", put("TENSORS", 0, name=(NONE, NONE)), r"TENSORS\[0\]: name .* leaves the string"),
    ("split", put("SOURCES", 0, file=(15, 1)), r"SOURCES\[0\].*splits a UTF-8 character"),
    ("source", put("SOURCES", 0, file=(9999, 1)), r"SOURCES\[0\].*file .* leaves"),
    ("source_reserved", put("SOURCES", 0, reserved=1), r"SOURCES\[0\] 'linear': reserved"),
]
BUFFERS = [
    ("kind", put("BUFFERS", 3, kind=9), r"BUFFERS\[3\] 'linear': kind 9 is unknown"),
    ("size_unaligned", put("BUFFERS", 3, size=65), r"BUFFERS\[3\].*size is 65"),
    ("size_limit", put("BUFFERS", 3, size=1 << 40), r"BUFFERS\[3\].*size is 1099511627776"),
    ("offset_unaligned", put("BUFFERS", 3, offset=8), r"BUFFERS\[3\].*offset 8"),
    ("offset_input", put("BUFFERS", 0, offset=64), r"BUFFERS\[0\].*must be 0 for kind input"),
    ("alias_input", put("BUFFERS", 0, alias_of=1), r"BUFFERS\[0\].*only arena"),
    ("constant_range", put("BUFFERS", 2, offset=64), r"BUFFERS\[2\].*leave CONSTANTS of 64"),
    ("live_order", put("BUFFERS", 3, first_use=2), r"BUFFERS\[3\].*live range 2 to 1"),
    ("live_range", put("BUFFERS", 3, last_use=4), r"BUFFERS\[3\].*within the 4 dispatches"),
    ("input_size", put("BUFFERS", 0, size=128), r"BUFFERS\[0\].*size is 128.*take 64"),
    ("arena_range", put("BUFFERS", 3, offset=64), r"BUFFERS\[3\].*leave the arena of 64"),
    ("entry_end", put("BUFFERS", 4, last_use=3), r"BUFFERS\[4\].*ends at dispatch 3"),
    ("overlap", put("BUFFERS", 4, alias_of=NONE), r"BUFFERS\[4\].*shares arena memory.*\(linear\)"),
    (
        "alias_alive",
        put("BUFFERS", 3, last_use=2),
        r"BUFFERS\[4\].*takes over the memory of buffer 3",
    ),
    (
        "alias_kind",
        put("BUFFERS", 4, alias_of=0),
        r"BUFFERS\[4\].*alias_of is 0, which is no arena",
    ),
    ("alias_range", put("BUFFERS", 4, alias_of=77), r"BUFFERS\[4\].*alias_of is 77"),
]
TENSORS = [
    ("buffer", put("TENSORS", 0, buffer=8), r"TENSORS\[0\] 'x': buffer is 8, there are 8"),
    ("dtype", put("TENSORS", 0, dtype=0), r"TENSORS\[0\].*dtype 0 is unknown"),
    ("ir_dtype", put("TENSORS", 0, ir_dtype=99), r"TENSORS\[0\].*ir_dtype 99"),
    ("rank", put("TENSORS", 0, rank=9), r"TENSORS\[0\].*rank is 9"),
    ("layout", put("TENSORS", 0, layout=2), r"TENSORS\[0\].*layout 2"),
    ("offset", put("TENSORS", 0, offset=2), r"TENSORS\[0\].*offset 2 is not aligned to float32"),
    ("extent", put("TENSORS", 0, offset=52), r"TENSORS\[0\].*leave buffer 0 \(x\) of 64"),
    ("far", put("TENSORS", 0, offset=1 << 62), r"TENSORS\[0\].*leave buffer 0"),
    (
        "alloc",
        item("TENSORS", 0, "alloc_shape", 1, 3),
        r"TENSORS\[0\].*4 elements in an allocation of 3",
    ),
    ("behind_rank", item("TENSORS", 0, "strides", 5, 1), r"TENSORS\[0\].*axis 5 is behind rank 2"),
    ("shape_behind", item("TENSORS", 0, "shape", 5, 1), r"TENSORS\[0\].*axis 5"),
    ("negative", item("TENSORS", 0, "strides", 0, -1), r"TENSORS\[0\].*stride of axis 0 is -1"),
    ("overflow", item("TENSORS", 0, "strides", 1, 1 << 62), r"TENSORS\[0\].*leave buffer"),
    (
        "dim",
        both(item("TENSORS", 0, "alloc_shape", 1, 1 << 31), item("TENSORS", 0, "strides", 1, 0)),
        r"TENSORS\[0\].*axis 1 has 2147483648 elements",
    ),
    (
        "elements",
        both(
            put("TENSORS", 0, alloc_shape=((1 << 31) - 1,) * 2, strides=(0, 0)),
        ),
        r"TENSORS\[0\].*elements, the limit is 1099511627776",
    ),
]
WEIGHTS = [
    ("tensor", put("WEIGHTS", 0, tensor=8), r"WEIGHTS\[0\]: tensor is 8"),
    (
        "kind",
        put("WEIGHTS", 0, tensor=0),
        r"WEIGHTS\[0\]: tensor 'x' does not start a buffer of kind",
    ),
    ("reserved", put("WEIGHTS", 0, reserved=1), r"WEIGHTS\[0\]: reserved"),
    ("recipes", put("WEIGHTS", 0, recipe_count=3), r"WEIGHTS\[0\]: recipes 0 to 3"),
    ("no_recipe", put("WEIGHTS", 0, recipe_count=0), r"WEIGHTS\[0\].*recipe_count is 0"),
    ("unused_recipe", put("WEIGHTS", 0, recipe_count=1), "RECIPES: weights use 1 of 2"),
    (
        "twice",
        lambda b: b.add("WEIGHTS", tensor=1, recipe_first=2, recipe_count=1),
        r"WEIGHTS\[1\]: weight 0 has the same buffer",
    ),
    (
        "missing",
        both(drop("WEIGHTS", 0), drop("RECIPES", 1), drop("RECIPES", 0)),
        "no weight record",
    ),
    (
        "start",
        put("RECIPES", 0, op=7, dtype=1, sources=(NONE,) * 4),
        r"RECIPES\[0\]: a recipe starts",
    ),
    ("restart", put("RECIPES", 1, op=1, dtype=0), r"RECIPES\[1\]: a recipe starts"),
    ("op", put("RECIPES", 1, op=99), r"RECIPES\[1\]: op 99 is unknown"),
    ("recipe_reserved", put("RECIPES", 1, reserved=1), r"RECIPES\[1\]: reserved"),
    ("source", item("RECIPES", 0, "sources", 0, 1), r"RECIPES\[0\]: source 0 is 1"),
    ("no_source", item("RECIPES", 0, "sources", 0, NONE), r"RECIPES\[0\]: load lacks source 0"),
    ("extra_source", item("RECIPES", 0, "sources", 1, 0), r"RECIPES\[0\]: load takes no source 1"),
    ("fold", put("RECIPES", 1, op=2, dtype=0), r"RECIPES\[1\]: fold_bn_weight lacks source 3"),
    ("cast", put("RECIPES", 1, dtype=0), r"RECIPES\[1\]: dtype 0 does not fit cast"),
    ("dtype", put("RECIPES", 0, dtype=1), r"RECIPES\[0\]: dtype 1 does not fit load"),
    ("value", put("RECIPES", 0, value=math.nan), r"RECIPES\[0\]: value nan does not fit load"),
    (
        "added",
        put("RECIPES", 1, op=15, dtype=0, value=math.inf),
        r"RECIPES\[1\]: value inf does not fit add",
    ),
    ("args", put("RECIPES", 0, arg_count=1), r"RECIPES\[0\]: 1 arguments do not fit load"),
    ("arg_count", put("RECIPES", 1, op=5, dtype=0, arg_count=9), r"RECIPES\[1\]: 9 arguments"),
    ("arg_behind", put("RECIPES", 1, args=(1,)), r"RECIPES\[1\]: argument 0 is 1 at 0"),
    (
        "permutation",
        put("RECIPES", 1, op=4, dtype=0, arg_count=2, args=(1, 1)),
        r"RECIPES\[1\]: its arguments are no permutation",
    ),
    (
        "slice_step",
        put("RECIPES", 1, op=9, dtype=0, arg_count=4, args=(0, 0, 0, 1)),
        r"RECIPES\[1\]: slice takes an axis",
    ),
    (
        "slice_count",
        put("RECIPES", 1, op=9, dtype=0, arg_count=3, args=(0, 0, 1)),
        r"RECIPES\[1\]: slice takes an axis",
    ),
    (
        "weight_norm_axes",
        put("RECIPES", 1, op=11, dtype=0, sources=(0, NONE, NONE, NONE), arg_count=2, args=(0, 1)),
        r"RECIPES\[1\]: weight_norm takes at most one axis",
    ),
    (
        "weight_norm_gain",
        put("RECIPES", 1, op=11, dtype=0),
        r"RECIPES\[1\]: weight_norm lacks source 0",
    ),
    (
        "flip_twice",
        put("RECIPES", 1, op=10, dtype=0, arg_count=2, args=(1, 1)),
        r"RECIPES\[1\]: its arguments are no axes",
    ),
    (
        "flip_axis",
        put("RECIPES", 1, op=10, dtype=0, arg_count=1, args=(8,)),
        r"RECIPES\[1\]: its arguments are no axes",
    ),
    (
        "elements",
        put("RECIPES", 1, op=6, dtype=0, arg_count=2, args=((1 << 31) - 1,) * 2),
        r"RECIPES\[1\]: more elements",
    ),
    (
        "source_dtype",
        put("SOURCE_TENSORS", 0, dtype=0),
        r"SOURCE_TENSORS\[0\] 'fc.weight': dtype 0",
    ),
    ("source_rank", put("SOURCE_TENSORS", 0, rank=9), r"SOURCE_TENSORS\[0\].*rank is 9"),
    ("source_axis", put("SOURCE_TENSORS", 0, rank=1), r"SOURCE_TENSORS\[0\].*axis 1 has 4"),
    (
        "source_elements",
        put("SOURCE_TENSORS", 0, shape=((1 << 31) - 1,) * 2),
        r"SOURCE_TENSORS\[0\].*more elements",
    ),
    (
        "source_reserved",
        item("SOURCE_TENSORS", 0, "reserved", 3, 1),
        r"SOURCE_TENSORS\[0\].*reserved",
    ),
]


@pytest.mark.parametrize(
    ("mutation", "pattern"),
    parameters(strings=STRINGS, buffers=BUFFERS, tensors=TENSORS, weights=WEIGHTS),
)
def test_a_fault_is_one_error_that_names_the_record(mutation: Mutation, pattern: str) -> None:
    check_fault(mutation, pattern)
