"""Which generator draws an operator's arguments: its own, or one made from its schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from npu_compiler.ops.record import OpRecord
from tests.fuzz.builder import RejectedError, Value
from tests.fuzz.sampler import Sampler
from torch_ir.schema import ArgKind, OpArg, is_known_op, op_schema

# Arguments in the order of the schema, and keyword arguments.
Call = tuple[list[Any], dict[str, Any]]
Generator = Callable[[Sampler], Call]
GENERATORS: dict[str, Generator] = {}


class NoGeneratorError(Exception):
    """An operator's schema does not say how to draw an argument."""


def generator(*op_types: str) -> Callable[[Generator], Generator]:
    """Register a generator for overloads (``"add.Tensor"``), or for all of a name (``"add"``)."""

    def register(function: Generator) -> Generator:
        for op_type in op_types:
            GENERATORS[op_type] = function
        return function

    return register


def generator_for(record: OpRecord) -> Generator:
    """The generator of a record's operator."""
    short = record.op_type.removeprefix("aten.")
    found = GENERATORS.get(short) or GENERATORS.get(short.split(".")[0])
    return found or by_schema


def _number(s: Sampler, first: Value | None) -> Any:
    return s.number(first.dtype if first is not None else s.float_dtype)


def _rank(first: Value | None) -> int:
    return 0 if first is None else first.rank


# How an argument of a name is drawn, given the first tensor.
ARGUMENTS: dict[str, Callable[[Sampler, Value | None], Any]] = {
    "dim": lambda s, x: s.dim(_rank(x)),
    "dim0": lambda s, x: s.dim(_rank(x)),
    "dim1": lambda s, x: s.dim(_rank(x)),
    "axis0": lambda s, x: s.dim(_rank(x)),
    "axis1": lambda s, x: s.dim(_rank(x)),
    "keepdim": lambda s, x: s.chance(),
    "diagonal": lambda s, x: s.integer(-3, 3),
    "descending": lambda s, x: s.chance(),
    "largest": lambda s, x: s.chance(),
    "sorted": lambda s, x: True,
    "stable": lambda s, x: True,
    "unbiased": lambda s, x: s.chance(),
    "correction": lambda s, x: s.integer(0, 1),
    "half_to_float": lambda s, x: False,
    "upper": lambda s, x: s.chance(),
    # Inference only.
    "train": lambda s, x: False,
    "training": lambda s, x: False,
    "p": lambda s, x: s.pick(ORDERS) if "norm" in s.record.op_type else 0.3,
    "ord": lambda s, x: s.pick(ORDERS),
    "generator": lambda s, x: None,
    "approximate": lambda s, x: s.pick(["none", "tanh"]),
    "rounding_mode": lambda s, x: s.pick([None, "floor", "trunc"]),
    "exponent": lambda s, x: s.pick([2, 1, 3, 0, 0.5, -1, -2, 4]),
    "negative_slope": lambda s, x: s.pick([0.01, 0.3, 1.5]),
    "threshold": lambda s, x: s.pick([20, 0.5]),
    "beta": lambda s, x: s.pick([1, 2, 0.5]),
    "lambd": lambda s, x: s.pick([0.5, 0.1, 1.0]),
    "alpha": lambda s, x: s.pick([1, 2, 3]),
    "eps": lambda s, x: s.pick([1e-5, 1e-3]),
    "decimals": lambda s, x: 0,
}
# Named as order of a norm.
ORDERS = [2, 1, 0, float("inf"), -float("inf")]
# Left at their defaults: they change nothing that can be seen on one device.
IGNORED = frozenset(
    {"dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking", "implicit", "copy"}
)


def by_schema(s: Sampler) -> Call:
    """Arguments by the kinds and names that the schema gives: the first tensor is of any shape,
    others broadcast to it."""
    schema = op_schema(s.record.op_type)
    first: Value | None = None
    args: list[Any] = []
    words: dict[str, Any] = {}
    for arg in schema.args:
        if arg.kind is ArgKind.TENSOR_LIST:
            raise NoGeneratorError(f"{schema.op_type} takes a list of tensors")
        if arg.kind is ArgKind.TENSOR:
            value: Any = None
            if not arg.optional or s.chance(70):
                # A condition or mask is a bool, or nothing works.
                bools = ["bool"] if arg.name in ("condition", "mask") else None
                value = s.tensor(dtype=bools) if first is None else s.broadcast(first, bools)
                if first is None or first.dtype == "bool":
                    first = value
        elif arg.has_default and (arg.name in IGNORED or not s.chance(70)):
            continue
        else:
            value = _plain(s, arg, first)
        if arg.kwarg_only or len(words) or len(args) < schema.args.index(arg):
            words[arg.name] = value
        else:
            args.append(value)
    return args, words


def _plain(s: Sampler, arg: OpArg, first: Value | None) -> Any:
    """An argument that is no tensor."""
    several = "List" in arg.type_name
    if arg.name in ("dim", "dims") and several:
        return s.dims(_rank(first), least=0 if arg.has_default else 1)
    if arg.name in ARGUMENTS:
        return ARGUMENTS[arg.name](s, first)
    kind = arg.type_name.removeprefix("Optional[").rstrip("]")
    if kind in ("number", "Scalar", "float"):
        return _number(s, first)
    if kind == "bool":
        return s.chance()
    raise NoGeneratorError(
        f"{s.record.op_type}: argument {arg.name!r} ({arg.type_name}); write a generator in "
        "tests/fuzz/generators"
    )


def draw_call(s: Sampler, *, in_place: bool = False) -> list[Value]:
    """Draw arguments and add the call to the sampler's graph; its results. ``in_place``: as the
    overload that writes to its first operand. Raises RejectedError."""
    args, words = generator_for(s.record)(s)
    if not in_place:
        return s.builder.call(s.record.op_type, args, words)
    space, name, overload = s.record.op_type.split(".")
    op_type = f"{space}.{name}_.{overload}"
    if not is_known_op(op_type):
        raise RejectedError(f"there is no {op_type}")
    return [s.builder.call_in_place(op_type, args, words)]


__all__ = ["GENERATORS", "Call", "NoGeneratorError", "RejectedError", "draw_call", "generator"]
