"""The epilogue of gemm and conv2d: their common fields, and the activations they can apply."""

from npu_compiler.kernels.record import Field

# By the name that op records and epilogues use.
ACTIVATIONS = {
    "none": 0,
    "gelu": 1,
    "gelu_tanh": 2,
    "silu": 3,
    "sigmoid": 4,
    "tanh": 5,
    "hardswish": 6,
    "hardsigmoid": 7,
}
# Those that make something else of zero: padding does not stay zero.
MOVES_ZERO = frozenset({"sigmoid", "hardsigmoid"})

EPILOGUE_FIELDS = (
    Field("activation", "u32", "function applied to the float32 sum, see ACTIVATIONS"),
    Field("clamp_lo", "f32", "lower bound of the result; -inf for none, 0 for ReLU"),
    Field("clamp_hi", "f32", "upper bound of the result; inf for none, 6 for ReLU6"),
)
EPILOGUE_RULES = (f"activation <= {max(ACTIVATIONS.values())}",)
EPILOGUE_CONSTANTS = {f"ACTIVATION_{name.upper()}": value for name, value in ACTIVATIONS.items()}
