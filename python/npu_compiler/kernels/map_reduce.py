"""The map_reduce kernel: a reduction with elementwise programs before and behind it."""

from npu_compiler.dtypes import DTYPES
from npu_compiler.kernels.elementwise import AXES
from npu_compiler.kernels.record import Field, Kernel, Launch, Operand
from npu_compiler.kernels.reduce import REDUCE_OPS, ROW_THREADS
from npu_compiler.kernels.scalar_ops import MAX_INPUTS, MAX_INSTRUCTIONS, MAX_OUTPUTS

# The last input and output that instructions can name are the accumulator: what the first part of
# the program stores there is reduced, and the second part loads the result.
ACCUMULATOR_INPUT, ACCUMULATOR_OUTPUT = MAX_INPUTS - 1, MAX_OUTPUTS - 1
# How values are combined, and the accumulator's dtype by the type of the registers.
COMBINE_OPS = {name: REDUCE_OPS[name] for name in ("sum", "max", "min", "prod")}
ACCUMULATOR_DTYPES = {"f": "float32", "i": "int32", "l": "int64"}

KEPT_AXES = AXES[: len(AXES) // 2]
REDUCED_AXES = AXES[len(KEPT_AXES) :]
_INPUTS = tuple(
    Operand(f"in{k}", AXES, dtype="any", optional=k > 0) for k in range(ACCUMULATOR_INPUT)
)
_OUTPUTS = tuple(
    Operand(f"out{k}", KEPT_AXES, dtype="any", access="write", optional=k > 0)
    for k in range(ACCUMULATOR_OUTPUT)
)
_D0, _D1, _D2 = KEPT_AXES

MAP_REDUCE = Kernel(
    id=25,
    name="map_reduce",
    shader="map_reduce.metal",
    doc="""Runs the first ``num_map`` instructions of ``code`` once per index of the inputs' shape;
    the last of them stores to the accumulator (output 3), which combines these values over d3, d4
    and d5. The other instructions run once per result: input 7 is the accumulator, inputs are read
    at the first index of the reduced axes. Registers do not outlive their part. Sums and products
    of integers wrap; NaN wins in max and min. See the elementwise kernel for the instructions.""",
    operands=(*_INPUTS, *_OUTPUTS),
    fields=(
        Field("op", "u32", "how values are combined, see COMBINE_OPS"),
        Field("dtype", "u32", "of the accumulator, a dtype id: f32, i32 or i64"),
        Field("num_map", "u32", "instructions of the first part"),
        Field("num_instructions", "u32", "instructions in code"),
        Field("code", "u32", "four words per instruction", count=4 * MAX_INSTRUCTIONS),
    ),
    launch=Launch(
        (f"out0.{_D2}", f"out0.{_D1}", f"out0.{_D0}"), (ROW_THREADS, 1, 1), unit="threadgroups"
    ),
    types={},
    requires=(
        " or ".join(f"op == {value}" for value in COMBINE_OPS.values()),
        " or ".join(f"dtype == {DTYPES[name].id}" for name in ACCUMULATOR_DTYPES.values()),
        "num_map >= 1",
        "num_map <= num_instructions",
        f"num_instructions <= {MAX_INSTRUCTIONS}",
        *(f"in0.{a} >= 1" for a in REDUCED_AXES),
        *(f"{o.name}.{a} == in0.{a}" for o in _INPUTS[1:] for a in AXES),
        *(f"{o.name}.{a} == in0.{a}" for o in _OUTPUTS for a in KEPT_AXES),
    ),
    shared=(("partial", "f32", 8), ("exact", "i64", ROW_THREADS)),
    flops=" * ".join(f"in0.{a}" for a in AXES) + " * num_instructions",
    constants={
        "ACCUMULATOR_INPUT": ACCUMULATOR_INPUT,
        "ACCUMULATOR_OUTPUT": ACCUMULATOR_OUTPUT,
    },
)
