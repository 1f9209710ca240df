"""One test per rule of the program verifier: one fault each, and the error that names its section."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable

import pytest
from npu_compiler.kernels.scalar_ops import BY_NAME, CONSTANT, LOAD, STORE, Instruction, float_bits
from npu_compiler.program import schema
from npu_compiler.program.schema import NONE
from npu_runtime import _native
from npu_runtime.errors import ProgramError

from tests.runtime_native.npubin_builder import Builder
from tests.runtime_native.toy_program import elementwise_fields, toy_program

Mutation = Callable[[Builder], object]


def put(section: str, index: int, **values: object) -> Mutation:
    """Overwrite fields of a record."""
    return lambda b: b.sections[section][index].update(values)


def item(section: str, index: int, field: str, at: int, value: object) -> Mutation:
    """Overwrite one element of an array field."""

    def mutate(b: Builder) -> None:
        record = b.sections[section][index]
        spec = next(f for f in schema.SECTIONS[section].fields if f.name == field)
        values = list(record.get(field, ()))
        values += [0] * (spec.count - len(values))
        values[at] = value
        record[field] = tuple(values)

    return mutate


def drop(section: str, index: int) -> Mutation:
    """Remove a record."""
    return lambda b: b.sections[section].pop(index)


def raw(section: str, at: int, data: bytes) -> Mutation:
    """Overwrite bytes of a raw section."""

    def mutate(b: Builder) -> None:
        b.raw[section][at : at + len(data)] = data

    return mutate


def both(*mutations: Mutation) -> Mutation:
    """Several changes that make one fault."""

    def mutate(b: Builder) -> None:
        for m in mutations:
            m(b)

    return mutate


def code(*instructions: Instruction) -> Mutation:
    """Replace the elementwise program (dispatch 1)."""

    def mutate(b: Builder) -> None:
        from npu_compiler.kernels import KERNELS

        fields = KERNELS["elementwise"].pack_fields(elementwise_fields(*instructions))
        at = b.sections["DISPATCHES"][1]["field_offset"]
        b.raw["FIELDS"][at : at + len(fields)] = fields
        b.sections["DISPATCHES"][1]["flops"] = 3 * len(instructions)

    return mutate


GOOD = (
    Instruction(LOAD, 0, a=0),
    Instruction(CONSTANT, 1, immediate=float_bits(2.0)),
    Instruction(BY_NAME["mul_f"].id, 2, a=0, b=1),
    Instruction(STORE, 0, a=2),
)
# Operand indices of the toy program's dispatches.
GEMM_X, GEMM_W, GEMM_BIAS, GEMM_RESIDUAL, GEMM_Y = range(5)
ELEMENTWISE_IN0, ELEMENTWISE_OUT0 = 5, 13
SOFTMAX_X, SOFTMAX_Y, STEP_X, STEP_Y = 17, 18, 19, 20
MUL_CODE = 8 + 4  # the elementwise code: behind gemm's fields and num_instructions

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
    ("alias_alive", put("BUFFERS", 3, last_use=2), r"BUFFERS\[4\].*takes over the memory of buffer 3"),
    ("alias_kind", put("BUFFERS", 4, alias_of=0), r"BUFFERS\[4\].*alias_of is 0, which is no arena"),
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
    ("alloc", item("TENSORS", 0, "alloc_shape", 1, 3), r"TENSORS\[0\].*4 elements in an allocation of 3"),
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
    ("kind", put("WEIGHTS", 0, tensor=0), r"WEIGHTS\[0\]: tensor 'x' does not start a buffer of kind"),
    ("reserved", put("WEIGHTS", 0, reserved=1), r"WEIGHTS\[0\]: reserved"),
    ("recipes", put("WEIGHTS", 0, recipe_count=3), r"WEIGHTS\[0\]: recipes 0 to 3"),
    ("no_recipe", put("WEIGHTS", 0, recipe_count=0), r"WEIGHTS\[0\].*recipe_count is 0"),
    ("unused_recipe", put("WEIGHTS", 0, recipe_count=1), "RECIPES: weights use 1 of 2"),
    (
        "twice",
        lambda b: b.add("WEIGHTS", tensor=1, recipe_first=2, recipe_count=1),
        r"WEIGHTS\[1\]: weight 0 has the same buffer",
    ),
    ("missing", both(drop("WEIGHTS", 0), drop("RECIPES", 1), drop("RECIPES", 0)), "no weight record"),
    ("start", put("RECIPES", 0, op=7, dtype=1, sources=(NONE,) * 4), r"RECIPES\[0\]: a recipe starts"),
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
    ("args", put("RECIPES", 0, arg_count=1), r"RECIPES\[0\]: 1 arguments do not fit load"),
    ("arg_count", put("RECIPES", 1, op=5, dtype=0, arg_count=9), r"RECIPES\[1\]: 9 arguments"),
    ("arg_behind", put("RECIPES", 1, args=(1,)), r"RECIPES\[1\]: argument 0 is 1 at 0"),
    (
        "permutation",
        put("RECIPES", 1, op=4, dtype=0, arg_count=2, args=(1, 1)),
        r"RECIPES\[1\]: its arguments are no permutation",
    ),
    (
        "elements",
        put("RECIPES", 1, op=6, dtype=0, arg_count=2, args=((1 << 31) - 1,) * 2),
        r"RECIPES\[1\]: more elements",
    ),
    ("source_dtype", put("SOURCE_TENSORS", 0, dtype=0), r"SOURCE_TENSORS\[0\] 'fc.weight': dtype 0"),
    ("source_rank", put("SOURCE_TENSORS", 0, rank=9), r"SOURCE_TENSORS\[0\].*rank is 9"),
    ("source_axis", put("SOURCE_TENSORS", 0, rank=1), r"SOURCE_TENSORS\[0\].*axis 1 has 4"),
    (
        "source_elements",
        put("SOURCE_TENSORS", 0, shape=((1 << 31) - 1,) * 2),
        r"SOURCE_TENSORS\[0\].*more elements",
    ),
    ("source_reserved", item("SOURCE_TENSORS", 0, "reserved", 3, 1), r"SOURCE_TENSORS\[0\].*reserved"),
]
OPERANDS = [
    ("buffer", put("OPERANDS", GEMM_X, buffer=8), r"OPERANDS\[0\]: buffer is 8"),
    ("tensor", put("OPERANDS", GEMM_X, tensor=8), r"OPERANDS\[0\]: tensor is 8"),
    ("dtype", put("OPERANDS", GEMM_X, dtype=77), r"OPERANDS\[0\]: dtype 77"),
    ("access", put("OPERANDS", GEMM_X, access=2), r"OPERANDS\[0\]: access 2"),
    ("reserved", item("OPERANDS", GEMM_X, "reserved", 4, 1), r"OPERANDS\[0\]: reserved"),
    ("offset", put("OPERANDS", GEMM_X, offset=1), r"OPERANDS\[0\]: offset 1 is not aligned"),
    ("extent", put("OPERANDS", GEMM_X, offset=52), r"OPERANDS\[0\].*leave buffer 0"),
    ("absent", put("OPERANDS", GEMM_RESIDUAL, offset=4), r"OPERANDS\[3\]: an absent operand"),
    ("absent_shape", put("OPERANDS", GEMM_RESIDUAL, shape=(1,)), r"OPERANDS\[3\]: an absent"),
    ("kernel_access", put("OPERANDS", GEMM_X, access=1), r"DISPATCHES\[0\] 'linear': operand x .*is read"),
    (
        "missing",
        lambda b: b.sections["OPERANDS"].__setitem__(GEMM_X, {"buffer": NONE, "tensor": NONE}),
        r"DISPATCHES\[0\].*operand x of kernel gemm is missing",
    ),
    (
        "rank",
        put("OPERANDS", GEMM_X, rank=2, shape=(1, 4), strides=(4, 1)),
        r"DISPATCHES\[0\].*operand x of kernel gemm has rank 3, not 2",
    ),
    ("type", put("OPERANDS", GEMM_X, dtype=5), r"DISPATCHES\[0\].*operand x .*cannot be int32"),
    ("types", put("OPERANDS", GEMM_X, dtype=2), r"DISPATCHES\[0\].*operand w is float32 beside float16"),
    ("fixed_type", put("OPERANDS", GEMM_BIAS, dtype=2), r"DISPATCHES\[0\].*operand bias .* is f32, not f16"),
    (
        "self_overlap",
        item("OPERANDS", GEMM_Y, "strides", 2, 0),
        r"DISPATCHES\[0\].*operand y .*writes elements that share memory",
    ),
    (
        "write_weight",
        put("OPERANDS", GEMM_Y, buffer=1),
        r"DISPATCHES\[0\].*operand 4 writes buffer 1 \(w\), a weight",
    ),
    ("write_constant", put("OPERANDS", GEMM_Y, buffer=2), r"DISPATCHES\[0\].*\(bias\), a constant"),
    ("write_input", put("OPERANDS", GEMM_Y, buffer=0), r"DISPATCHES\[0\].*an input that is not donated"),
    ("other_input", put("OPERANDS", GEMM_X, buffer=6), r"DISPATCHES\[0\].*no input of the entry point"),
    ("other_output", put("OPERANDS", SOFTMAX_Y, buffer=7), r"DISPATCHES\[2\].*no output of the entry"),
    ("unwritten", put("OPERANDS", GEMM_X, buffer=3), r"DISPATCHES\[0\].*which no earlier dispatch"),
    ("dead", put("OPERANDS", SOFTMAX_X, buffer=3), r"DISPATCHES\[2\].*lives from dispatch 0 to 1"),
    (
        "overlap",
        both(put("BUFFERS", 4, size=128), put("ENTRY_POINTS", 0, arena_size=128),
             put("OPERANDS", ELEMENTWISE_OUT0, offset=4)),
        r"DISPATCHES\[1\].*operand out0 of kernel elementwise writes over operand in0",
    ),
    (
        "donor_overlap",
        both(put("BUFFERS", 6, size=64), put("OPERANDS", STEP_Y, offset=4)),
        r"DISPATCHES\[3\].*operand y of kernel softmax writes over operand x",
    ),
]  # fmt: skip
DISPATCHES = [
    ("kernel", put("DISPATCHES", 0, kernel=99), r"DISPATCHES\[0\] 'linear': kernel 99 is unknown"),
    ("operand_count", put("DISPATCHES", 0, operand_count=4), r"DISPATCHES\[0\].*has 5 operands, not 4"),
    ("operands", put("DISPATCHES", 0, operand_first=17), r"DISPATCHES\[0\].*operands 17 to 22"),
    ("operands_far", put("DISPATCHES", 0, operand_first=NONE), r"DISPATCHES\[0\].*operands"),
    ("field_size", put("DISPATCHES", 0, field_size=4), r"DISPATCHES\[0\].*field block of 8 bytes"),
    ("field_align", put("DISPATCHES", 0, field_offset=2), r"DISPATCHES\[0\].*multiple of 4"),
    ("field_range", put("DISPATCHES", 0, field_offset=1 << 20), r"DISPATCHES\[0\].*field bytes"),
    ("source", put("DISPATCHES", 0, source=1), r"DISPATCHES\[0\].*source is 1"),
    ("rule", item("OPERANDS", GEMM_W, "shape", 2, 3), r"rule 'x.k == w.k' does not hold, x.k=4, w.k=3"),
    ("field_rule", put("DISPATCHES", 2, field_offset=8), r"DISPATCHES\[2\].*rule 'log <= 1'.*log=4"),
    ("grid", item("DISPATCHES", 0, "grid", 1, 2), r"DISPATCHES\[0\].*grid axis 1 is 2"),
    ("threadgroup", item("DISPATCHES", 0, "threadgroup", 0, 32), r"DISPATCHES\[0\].*threadgroup axis 0"),
    ("flops", put("DISPATCHES", 0, flops=23), r"DISPATCHES\[0\].*flops are 23, kernel gemm gives 24"),
    (
        "empty",
        both(
            item("OPERANDS", SOFTMAX_X, "shape", 2, 0),
            item("OPERANDS", SOFTMAX_Y, "shape", 2, 0),
            put("DISPATCHES", 2, grid=(0, 1, 1), flops=0),
        ),
        r"DISPATCHES\[2\].*the grid is empty",
    ),
]
CODE = [
    ("op", code(Instruction(99, 0)), "instruction 0: operation 99 is unknown"),
    ("absent_input", code(Instruction(LOAD, 0, a=1)), "instruction 0: input 1 is absent"),
    ("input_range", code(Instruction(LOAD, 0, a=8)), "instruction 0: input 8 is absent"),
    ("absent_output", code(*GOOD[:3], Instruction(STORE, 1, a=2)), "instruction 3: output 1 is absent"),
    ("output_range", code(*GOOD[:3], Instruction(STORE, 200, a=2)), "instruction 3: output 200"),
    ("unwritten", code(GOOD[0], GOOD[2]), "instruction 1: register 1 is read before"),
    ("register", code(Instruction(LOAD, 32, a=0)), "instruction 0: register 32, there are 32"),
    ("read_range", code(Instruction(STORE, 0, a=255)), "instruction 0: register 255"),
    (
        "type",
        code(GOOD[0], Instruction(BY_NAME["i_to_f"].id, 1, a=0)),
        "instruction 1: register 0 holds f, i is read",
    ),
    (
        "store_type",
        code(GOOD[0], Instruction(BY_NAME["f_to_i"].id, 1, a=0), Instruction(STORE, 0, a=1)),
        "instruction 2: register 1 holds i, f is read",
    ),
    ("unused_word", code(Instruction(LOAD, 0, a=0, b=1)), "instruction 0: a word that"),
    ("immediate", code(Instruction(LOAD, 0, immediate=1)), "instruction 0: a word that"),
    ("reserved", raw("FIELDS", MUL_CODE + 12, b"\1"), "instruction 0: a word that"),
    ("no_store", code(*GOOD[:3]), "output 0 is never stored"),
    ("behind", raw("FIELDS", MUL_CODE + 4 * 16, b"\1"), "the code behind instruction 4 is not 0"),
    ("count", raw("FIELDS", MUL_CODE - 4, struct.pack("<I", 65)), "rule 'num_instructions <= 64'"),
]
ENTRIES = [
    ("none", lambda b: b.sections["ENTRY_POINTS"].clear(), "ENTRY_POINTS: a program has at least one"),
    ("same_name", put("ENTRY_POINTS", 1, name="main"), r"ENTRY_POINTS\[1\] 'main': two entry points"),
    ("dispatches", put("ENTRY_POINTS", 1, dispatch_count=2), r"ENTRY_POINTS\[1\].*dispatches 3 to 5"),
    ("gap", put("ENTRY_POINTS", 1, dispatch_first=2), r"ENTRY_POINTS\[1\].*dispatch_first is 2"),
    ("inputs", put("ENTRY_POINTS", 0, input_count=9), r"ENTRY_POINTS\[0\].*inputs 0 to 9"),
    ("outputs", put("ENTRY_POINTS", 0, output_first=9), r"ENTRY_POINTS\[0\].*outputs 9"),
    ("io_order", put("ENTRY_POINTS", 0, output_first=3), r"ENTRY_POINTS\[0\].*must be 0 and 1"),
    ("cover", drop("ENTRY_POINTS", 1), r"ENTRY_POINTS\[0\].*cover 3 of 4 dispatches"),
    ("arena", put("ENTRY_POINTS", 0, arena_size=128), r"ENTRY_POINTS\[0\].*its buffers end at 64"),
    ("arena_limit", put("ENTRY_POINTS", 0, arena_size=1 << 40), r"ENTRY_POINTS\[0\].*the limit"),
    ("io_tensor", put("IOS", 0, tensor=8), r"IOS\[0\] 'x': tensor is 8"),
    ("io_kind", put("IOS", 0, tensor=1), r"IOS\[0\].*of kind weight, not input"),
    ("io_offset", put("TENSORS", 0, offset=4), r"IOS\[0\].*starts at offset 4"),
    (
        "io_twice",
        both(
            lambda b: b.sections["IOS"].insert(1, {"name": "x2", "tensor": 0, "donor": NONE}),
            put("ENTRY_POINTS", 0, input_count=2, output_first=2),
            put("ENTRY_POINTS", 1, input_first=3, output_first=4),
        ),
        r"IOS\[1\] 'x2': its buffer is also that of another",
    ),
    ("input_donor", put("IOS", 0, donor=0), r"IOS\[0\].*only an output has a donor"),
    ("donor", put("IOS", 3, donor=1), r"IOS\[3\] 'state_out': donor is 1"),
    (
        "donor_size",
        both(
            put("BUFFERS", 7, size=128),
            put("TENSORS", 7, alloc_shape=(2, 3), strides=(16, 1)),
        ),
        r"IOS\[3\].*has 128 bytes, that of its donor 64",
    ),
    ("unwritten", put("OPERANDS", SOFTMAX_Y, buffer=4), r"no dispatch writes this output|writes over"),
]  # fmt: skip
CASES = [
    pytest.param(mutation, pattern, id=f"{group}-{name}")
    for group, cases in (
        ("strings", STRINGS), ("buffers", BUFFERS), ("tensors", TENSORS), ("weights", WEIGHTS),
        ("operands", OPERANDS), ("dispatches", DISPATCHES), ("code", CODE), ("entries", ENTRIES),
    )
    for name, mutation, pattern in cases
]  # fmt: skip


@pytest.mark.parametrize(("mutation", "pattern"), CASES)
def test_a_fault_is_one_error_that_names_the_record(mutation: Mutation, pattern: str) -> None:
    builder = toy_program()
    _native.Program.from_bytes(builder.build())  # good as it is
    mutation(builder)
    with pytest.raises(ProgramError) as caught:
        _native.Program.from_bytes(builder.build())
    message = str(caught.value)
    assert re.search(pattern, message), message
    assert "compile the model again" in message
