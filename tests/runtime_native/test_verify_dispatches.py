"""The verifier's rules for operands, dispatches, code and entry points: one fault per rule."""

from __future__ import annotations

import struct

import pytest

from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.scalar_ops import (
    BY_NAME,
    CONSTANT,
    CONSTANT_L,
    LOAD,
    STORE,
    Instruction,
    float_bits,
)
from npu_compiler.program.schema import NONE
from tests.runtime_native.faults import (
    Mutation,
    both,
    check_fault,
    code,
    drop,
    item,
    parameters,
    put,
    raw,
)

GOOD = (
    Instruction(LOAD, 0, a=0),
    Instruction(CONSTANT, 1, immediate=float_bits(2.0)),
    Instruction(BY_NAME["mul_f"].id, 2, a=0, b=1),
    Instruction(STORE, 0, a=2),
)


def add_l(dst: int, a: int, b: int) -> Instruction:
    return Instruction(BY_NAME["add_l"].id, dst, a=a, b=b)


# Operand indices of the toy program's dispatches.
GEMM_X, GEMM_W, GEMM_BIAS, GEMM_RESIDUAL, GEMM_Y = range(5)
ELEMENTWISE_IN0, ELEMENTWISE_OUT0 = 5, 13
SOFTMAX_X, SOFTMAX_Y, STEP_X, STEP_Y = 17, 18, 19, 20
GEMM_FIELDS = KERNELS["gemm"].field_bytes
MUL_CODE = GEMM_FIELDS + 4  # the elementwise code: behind gemm's fields and num_instructions

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
    ("kernel_access", put("OPERANDS", GEMM_X, access=1), r"DISPATCHES\[0\].*operand x .*is read"),
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
    ("types", put("OPERANDS", GEMM_X, dtype=2), r"operand w is float32 beside float16"),
    ("fixed_type", put("OPERANDS", GEMM_BIAS, dtype=2), r"operand bias .* is f32, not f16"),
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
    ("write_input", put("OPERANDS", GEMM_Y, buffer=0), r"an input that is not donated"),
    ("other_input", put("OPERANDS", GEMM_X, buffer=6), r"no input of the entry point"),
    ("other_output", put("OPERANDS", SOFTMAX_Y, buffer=7), r"no output of the entry"),
    ("unwritten", put("OPERANDS", GEMM_X, buffer=3), r"DISPATCHES\[0\].*which no earlier dispatch"),
    ("dead", put("OPERANDS", SOFTMAX_X, buffer=3), r"DISPATCHES\[2\].*lives from dispatch 0 to 1"),
    (
        "overlap",
        both(
            put("BUFFERS", 4, size=128),
            put("ENTRY_POINTS", 0, arena_size=128),
            put("OPERANDS", ELEMENTWISE_OUT0, offset=4),
        ),
        r"DISPATCHES\[1\].*operand out0 of kernel elementwise writes over operand in0",
    ),
    (
        "donor_overlap",
        both(put("BUFFERS", 6, size=64), put("OPERANDS", STEP_Y, offset=4)),
        r"DISPATCHES\[3\].*operand y of kernel softmax writes over operand x",
    ),
]
DISPATCHES = [
    ("kernel", put("DISPATCHES", 0, kernel=99), r"DISPATCHES\[0\] 'linear': kernel 99 is unknown"),
    (
        "operand_count",
        put("DISPATCHES", 0, operand_count=4),
        r"DISPATCHES\[0\].*has 5 operands, not 4",
    ),
    ("operands", put("DISPATCHES", 0, operand_first=17), r"DISPATCHES\[0\].*operands 17 to 22"),
    ("operands_far", put("DISPATCHES", 0, operand_first=NONE), r"DISPATCHES\[0\].*operands"),
    (
        "field_size",
        put("DISPATCHES", 0, field_size=4),
        rf"DISPATCHES\[0\].*field block of {GEMM_FIELDS} bytes",
    ),
    ("field_align", put("DISPATCHES", 0, field_offset=2), r"DISPATCHES\[0\].*multiple of 4"),
    ("field_range", put("DISPATCHES", 0, field_offset=1 << 20), r"DISPATCHES\[0\].*field bytes"),
    ("source", put("DISPATCHES", 0, source=1), r"DISPATCHES\[0\].*source is 1"),
    (
        "rule",
        item("OPERANDS", GEMM_W, "shape", 2, 3),
        r"rule 'x.k == w.k' does not hold, x.k=4, w.k=3",
    ),
    (
        "field_rule",
        put("DISPATCHES", 2, field_offset=GEMM_FIELDS),
        r"DISPATCHES\[2\].*rule 'log <= 1'.*log=4",
    ),
    (
        "activation",
        raw("FIELDS", 0, struct.pack("<I", 99)),
        r"DISPATCHES\[0\].*rule 'activation <= 7' does not hold, activation=99",
    ),
    ("grid", item("DISPATCHES", 0, "grid", 1, 2), r"DISPATCHES\[0\].*grid axis 1 is 2"),
    (
        "threadgroup",
        item("DISPATCHES", 0, "threadgroup", 0, 32),
        r"DISPATCHES\[0\].*threadgroup axis 0",
    ),
    (
        "flops",
        put("DISPATCHES", 0, flops=23),
        r"DISPATCHES\[0\].*flops are 23, kernel gemm gives 24",
    ),
    (
        "work",
        both(
            *(
                item("OPERANDS", operand, field, 2, value)
                for operand in (GEMM_X, GEMM_W)
                for field, value in (("shape", 2**31 - 1), ("strides", 0))
            ),
            put("DISPATCHES", 0, flops=6 * (2**31 - 1)),
        ),
        r"DISPATCHES\[0\].*12884901882 operations on \d+ bytes, the limit is",
    ),
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
    ("op", code(Instruction(250, 0)), "instruction 0: operation 250 is unknown"),
    ("absent_input", code(Instruction(LOAD, 0, a=1)), "instruction 0: input 1 is absent"),
    ("input_range", code(Instruction(LOAD, 0, a=8)), "instruction 0: input 8 is absent"),
    (
        "absent_output",
        code(*GOOD[:3], Instruction(STORE, 1, a=2)),
        "instruction 3: output 1 is absent",
    ),
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
    (
        "long",
        code(GOOD[0], Instruction(BY_NAME["l_to_f"].id, 1, a=0)),
        "instruction 1: register 0 holds f, l is read",
    ),
    (
        "long_constant_as_float",
        code(Instruction(CONSTANT_L, 0, immediate=1), Instruction(STORE, 0, a=0)),
        "instruction 1: register 0 holds l, f is read",
    ),
    (
        "constant_as_long",
        code(Instruction(CONSTANT, 0, immediate=1), Instruction(BY_NAME["l_to_f"].id, 1, a=0)),
        r"instruction 1: register 0 holds a 32-bit constant, l is read",
    ),
    (
        "upper_immediate",
        code(Instruction(CONSTANT, 0, immediate=1 << 32)),
        "instruction 0: a word that",
    ),
    (
        "narrow_as_long",
        code(GOOD[0], Instruction(BY_NAME["f_to_i"].id, 1, a=0), add_l(2, 1, 1)),
        "instruction 2: register 1 holds i, l is read",
    ),
    ("unused_word", code(Instruction(LOAD, 0, a=0, b=1)), "instruction 0: a word that"),
    ("immediate", code(Instruction(LOAD, 0, immediate=1)), "instruction 0: a word that"),
    ("reserved", raw("FIELDS", MUL_CODE + 12, b"\1"), "instruction 0: a word that"),
    ("no_store", code(*GOOD[:3]), "output 0 is never stored"),
    ("behind", raw("FIELDS", MUL_CODE + 4 * 16, b"\1"), "the code behind instruction 4 is not 0"),
    ("count", raw("FIELDS", MUL_CODE - 4, struct.pack("<I", 65)), "rule 'num_instructions <= 64'"),
]
ENTRIES = [
    ("none", lambda b: b.sections["ENTRY_POINTS"].clear(), "ENTRY_POINTS: .*at least one"),
    ("same_name", put("ENTRY_POINTS", 1, name="main"), r"ENTRY_POINTS\[1\] 'main': two"),
    ("dispatches", put("ENTRY_POINTS", 1, dispatch_count=2), r"ENTRY_POINTS\[1\].*3 to 5"),
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
    ("unwritten", put("OPERANDS", SOFTMAX_Y, buffer=4), "no dispatch writes this|writes over"),
]


@pytest.mark.parametrize(
    ("mutation", "pattern"),
    parameters(operands=OPERANDS, dispatches=DISPATCHES, code=CODE, entries=ENTRIES),
)
def test_a_fault_is_one_error_that_names_the_record(mutation: Mutation, pattern: str) -> None:
    check_fault(mutation, pattern)
