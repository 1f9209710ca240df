"""Reductions as the map_reduce kernel computes them: a formula of each element, how the values are
combined, and a formula of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import nan, prod
from typing import Literal

from npu_compiler.dtypes import FLOATING
from npu_compiler.elementwise import Builder, Register
from npu_compiler.graph import Node, Value
from npu_compiler.ops import find_op
from npu_compiler.ops.reduction import REDUCE_OP_OF, reduce_op, reduced_dims

Load = Callable[[Value], Register]
Finish = Callable[[Builder, Register], Register]
Combine = Literal["sum", "max", "min", "prod"]


@dataclass(frozen=True, slots=True)
class MapReduction:
    """``finish(combine over dims of map(elements))``; ``shape`` is that of the elements."""

    shape: tuple[int, ...]
    dims: tuple[int, ...]
    keepdim: bool
    combine: Combine
    map: Callable[[Builder, Load], Register]
    finish: Finish


def unchanged(builder: Builder, result: Register) -> Register:
    """The ending of a sum, a maximum or a minimum."""
    return result


def division(count: int) -> Finish:
    """What makes a mean of the sum of ``count`` values; NaN of none."""
    if count == 0:
        return lambda builder, total: builder("mul_f", total, nan)
    return lambda builder, total: builder("div_f", total, float(count))


def _root(builder: Builder, total: Register) -> Register:
    return builder("sqrt_f", total)


def _wide(builder: Builder, x: Register) -> Register:
    """Integers as int64, which their products are computed in."""
    return x if x.type == "f" else builder.as_type(x, "l")


def _sum(builder: Builder, x: Register) -> Register:
    """Integers as int64, but for bools: the sum of as many as one result has is an int32."""
    return x if x.type == "i" and builder.is_bool(x) else _wide(builder, x)


# By the name of the reduction: how values are combined and what of each element.
_MAPS: dict[str, tuple[Combine, Callable[[Builder, Register], Register]]] = {
    "sum": ("sum", _sum),
    "mean": ("sum", unchanged),
    "max": ("max", unchanged),
    "min": ("min", unchanged),
    "prod": ("prod", _wide),
    "any": ("max", lambda b, x: b.truth(x)),
    "all": ("min", lambda b, x: b.truth(x)),
    "count_nonzero": ("sum", lambda b, x: b.truth(x)),
    "norm_0": ("sum", lambda b, x: b.as_type(b.truth(x), "f")),
    "norm_1": ("sum", lambda b, x: b("abs_f", x)),
    "norm_2": ("sum", lambda b, x: b("mul_f", x, x)),
    "norm_inf": ("max", lambda b, x: b("abs_f", x)),
    "norm_neg_inf": ("min", lambda b, x: b("abs_f", x)),
}
# Values that one result may combine, so that counts fit int32.
_MAX_COUNT = 2**31 - 1
_ANY_DTYPE = frozenset({"any", "all", "count_nonzero"})


def map_reduction(node: Node) -> MapReduction | None:
    """How map_reduce computes the node; None where it cannot."""
    if node.op_type not in REDUCE_OP_OF:
        record = find_op(node.op_type)
        reduction = None if record is None else record.map_reduction
        return None if reduction is None else reduction(node)
    x, op = node.tensor("self"), reduce_op(node)
    if x.numel == 0 or op not in _MAPS or not _keeps_dtype(op, x.dtype, node.output.dtype):
        return None
    dims = tuple(reduced_dims(node))
    count = prod(x.shape[d] for d in dims)
    if count > _MAX_COUNT:
        return None
    combine, formula = _MAPS[op]
    finish: Finish = unchanged
    if op == "mean":
        finish = division(count)
    elif op == "norm_2":
        finish = _root
    return MapReduction(
        x.shape,
        dims,
        bool(node.args.get("keepdim")),
        combine,
        lambda builder, load: formula(builder, load(x)),
        finish,
    )


def _keeps_dtype(op: str, dtype: str, result: str) -> bool:
    """Whether nothing is converted before it is reduced."""
    if "float64" in (dtype, result):
        return False
    if op in _ANY_DTYPE:
        return True
    if dtype in FLOATING:
        return result in (dtype, "float32")
    return op in ("sum", "prod", "max", "min") and result not in FLOATING
