"""A small program that uses every section: two entry points, in-place reuse, a donated input."""

from __future__ import annotations

import struct

from npu_compiler.kernels.scalar_ops import (
    BY_NAME,
    CONSTANT,
    LOAD,
    MAX_INSTRUCTIONS,
    STORE,
    Instruction,
    float_bits,
)
from npu_compiler.program.schema import NONE, RECIPE_OPS
from tests.runtime_native.npubin_builder import Builder

IN, OUT = 4, 3
BIAS = (0.5, -1.0, 0.25)


def elementwise_fields(*instructions: Instruction) -> dict[str, object]:
    """The field block of an elementwise program."""
    words = [word for i in instructions for word in i.words()]
    code = words + [0] * (4 * MAX_INSTRUCTIONS - len(words))
    return {"num_instructions": len(instructions), "code": code}


def toy_program() -> Builder:
    """main: y = softmax(relu(x @ w.T + bias) * 2); step: state = softmax(state) in place."""
    b = Builder()
    b.add("METADATA", key="model_name", value="toy ☺")
    b.add("SOURCES", node="linear", op_type="aten.linear.default", module="fc", file="m.py", line=3)
    b.raw["CONSTANTS"] += struct.pack("<3f", *BIAS) + bytes(52)

    x = b.tensor("x", b.buffer("x", "input", 4 * IN), (1, IN))
    w = b.tensor("w", b.buffer("w", "weight", 4 * OUT * IN), (OUT, IN))
    bias = b.tensor("bias", b.buffer("bias", "constant", 4 * OUT), (OUT,))
    linear = b.tensor("linear", b.buffer("linear", "arena", 4 * OUT, last_use=1), (1, OUT))
    scaled = b.tensor(
        "scaled",
        b.buffer("scaled", "arena", 4 * OUT, first_use=1, last_use=2, alias_of=3),
        (1, OUT),
    )
    y = b.tensor("y", b.buffer("y", "output", 4 * OUT), (1, OUT))
    old = b.tensor("state", b.buffer("state", "input", 4 * OUT), (1, OUT))
    new = b.tensor("state_out", b.buffer("state_out", "output", 4 * OUT), (1, OUT))

    b.add("SOURCE_TENSORS", name="fc.weight", dtype=1, rank=2, shape=(OUT, IN))
    b.add("RECIPES", op=RECIPE_OPS["load"], sources=(0, NONE, NONE, NONE))
    b.add("RECIPES", op=RECIPE_OPS["cast"], sources=(NONE,) * 4, dtype=1)
    b.add("WEIGHTS", tensor=w, recipe_first=0, recipe_count=2)

    clamp = {"activation": 0, "clamp_lo": 0.0, "clamp_hi": float("inf")}
    b.dispatch(
        "linear",
        "gemm",
        {
            "x": b.view(x, (1, 1, IN)),
            "w": b.view(w, (1, OUT, IN)),
            "bias": b.view(bias, (OUT,)),
            "y": b.view(linear, (1, 1, OUT)),
        },
        clamp,
    )
    b.sections["DISPATCHES"][0]["source"] = 0
    flat = (OUT, 1, 1, 1, 1, 1)
    b.dispatch(
        "scale",
        "elementwise",
        {"in0": b.view(linear, flat), "out0": b.view(scaled, flat)},
        elementwise_fields(
            Instruction(LOAD, 0, a=0),
            Instruction(CONSTANT, 1, immediate=float_bits(2.0)),
            Instruction(BY_NAME["mul_f"].id, 2, a=0, b=1),
            Instruction(STORE, 0, a=2),
        ),
    )
    row = (1, 1, 1, OUT)
    b.dispatch("softmax", "softmax", {"x": b.view(scaled, row), "y": b.view(y, row)}, {"log": 0})
    b.dispatch("step", "softmax", {"x": b.view(old, row), "y": b.view(new, row)}, {"log": 0})

    b.add("IOS", name="x", tensor=x, donor=NONE)
    b.add("IOS", name="y", tensor=y, donor=NONE)
    b.add("IOS", name="state", tensor=old, donor=NONE)
    b.add("IOS", name="state_out", tensor=new, donor=0)
    b.add(
        "ENTRY_POINTS", name="main", dispatch_first=0, dispatch_count=3, input_first=0,
        input_count=1, output_first=1, output_count=1, arena_size=64,
    )  # fmt: skip
    b.add(
        "ENTRY_POINTS", name="step", dispatch_first=3, dispatch_count=1, input_first=2,
        input_count=1, output_first=3, output_count=1,
    )  # fmt: skip
    return b
