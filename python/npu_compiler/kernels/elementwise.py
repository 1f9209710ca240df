"""The elementwise kernel: a register program over broadcast, strided operands."""

from npu_compiler.kernels.record import Field, Kernel, Launch, Operand
from npu_compiler.kernels.scalar_ops import (
    MAX_DIMS,
    MAX_INPUTS,
    MAX_INSTRUCTIONS,
    MAX_OUTPUTS,
)

AXES = tuple(f"d{i}" for i in range(MAX_DIMS))
_INPUTS = tuple(Operand(f"in{k}", AXES, dtype="any", optional=True) for k in range(MAX_INPUTS))
_OUTPUTS = tuple(
    Operand(f"out{k}", AXES, dtype="any", access="write", optional=k > 0)
    for k in range(MAX_OUTPUTS)
)

ELEMENTWISE = Kernel(
    id=8,
    name="elementwise",
    shader="elementwise.metal",
    doc="""Runs ``code`` once per index of the iteration space (the shape that all operands share;
    broadcast axes have stride 0). Arithmetic is float32, int32 or int64; see scalar_ops.py for the
    instructions.""",
    operands=(*_INPUTS, *_OUTPUTS),
    fields=(
        Field("num_instructions", "u32", "instructions in code"),
        Field("code", "u32", "four words per instruction", count=4 * MAX_INSTRUCTIONS),
    ),
    launch=Launch((" * ".join(f"out0.{a}" for a in AXES), "1", "1"), (256, 1, 1)),
    types={},
    requires=(
        f"num_instructions <= {MAX_INSTRUCTIONS}",
        *(f"{o.name}.{a} == out0.{a}" for o in (*_INPUTS, *_OUTPUTS[1:]) for a in AXES),
    ),
    inplace=tuple((i.name, o.name) for i in _INPUTS for o in _OUTPUTS),
    flops=" * ".join(f"out0.{a}" for a in AXES) + " * num_instructions",
)
