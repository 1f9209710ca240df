"""Distances and similarities of vectors: norms of differences, and the cosine of an angle."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, prod
from typing import TYPE_CHECKING

from npu_compiler.elementwise import Builder, Register
from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import axis, number, require, same_shape
from npu_compiler.ops.map_reduction import Combine, Finish, Load, MapReduction, unchanged
from npu_compiler.ops.pointwise import Args, broadcast_shape
from npu_compiler.ops.promotion import result_type
from npu_compiler.ops.record import OpRecord
from npu_compiler.reduction_dispatch import emit_reduction
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

Values = Callable[[Builder, Register], Register]


def _order(args: Args) -> float:
    """The order of the norm; the IR writes infinity as a string."""
    given = args["p"]
    order = float(given) if given in ("inf", "-inf") else float(number(given, "p"))
    require(order >= 0, f"a norm of order {given} is not supported, only of 0 and more")
    return order


def _norm(order: float) -> tuple[Combine, Values, Finish]:
    """How a norm of ``order`` combines which values, and what it makes of the result."""
    if order == inf:
        return "max", lambda b, d: b("abs_f", d), unchanged
    if order == 0:
        return "sum", lambda b, d: b.as_type(b.truth(d), "f"), unchanged
    if order == 1:
        return "sum", lambda b, d: b("abs_f", d), unchanged
    if order == 2:
        return "sum", lambda b, d: b("mul_f", d, d), lambda b, total: b("sqrt_f", total)
    return (
        "sum",
        lambda b, d: b("pow_f", b("abs_f", d), order),
        lambda b, total: b("pow_f", total, 1 / order),
    )


def _check_dtype(node: Node) -> None:
    common = result_type(list(node.inputs()))
    require(
        node.output.dtype == common,
        f"the result is {common}, the IR declares {node.output.dtype}",
    )


# Norms of the difference of two tensors, of rows of them (pairwise_distance) or of all (dist).


def _check_order(args: Args) -> str | None:
    _order(args)
    if "eps" in args:
        number(args["eps"], "eps")
    return None


def _distance_dims(node: Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The common shape, and its dimensions that are reduced."""
    shape = broadcast_shape(node)
    if node.op_type == "aten.dist.default":
        return shape, tuple(range(len(shape)))
    return shape, (len(shape) - 1,)


def _check_distance(node: Node) -> str | None:
    shape, dims = _distance_dims(node)
    require(bool(shape) or "keepdim" not in node.args, "it needs at least one dimension")
    keep = bool(node.args.get("keepdim"))
    kept = ((1 if d in dims else n) for d, n in enumerate(shape) if keep or d not in dims)
    same_shape(node, tuple(kept))
    _check_dtype(node)
    empty = prod(shape[d] for d in dims) == 0
    require(not empty or _order(node.args) != inf, f"a maximum of no elements of {list(shape)}")
    return None


def _distance(node: Node) -> MapReduction:
    shape, dims = _distance_dims(node)
    combine, formula, finish = _norm(_order(node.args))
    first, second = list(node.inputs())
    eps = float(node.args.get("eps", 0.0))

    def values(builder: Builder, load: Load) -> Register:
        d = builder("sub_f", load(first), load(second))
        return formula(builder, builder("add_f", d, eps) if eps else d)

    return MapReduction(shape, dims, bool(node.args.get("keepdim")), combine, values, finish)


def _map_distance(node: Node) -> MapReduction | None:
    return _distance(node) if prod(broadcast_shape(node)) else None


def _lower_distance(lowering: Lowering, node: Node) -> None:
    emit_reduction(lowering, node, _distance(node), lowering.define(node.output, image=False))


# The distances between all rows of two tensors.


def _cdist_shape(node: Node) -> tuple[int, ...]:
    """(..., rows of the first, rows of the second, elements of a row)."""
    first, second = (node.tensor(name) for name in ("x1", "x2"))
    require(first.rank >= 2 and second.rank >= 2, "its tensors need two dimensions or more")
    require(
        first.shape[-1] == second.shape[-1],
        f"rows of {first.shape[-1]} and {second.shape[-1]} elements have no distance",
    )
    batch = [list(v.shape[:-2]) for v in (first, second)]
    rank = max(map(len, batch))
    one, two = ([1] * (rank - len(b)) + b for b in batch)
    require(
        all(n == m or 1 in (n, m) for n, m in zip(one, two, strict=True)),
        f"batches {batch} do not broadcast",
    )
    joined = [m if n == 1 else n for n, m in zip(one, two, strict=True)]
    return (*joined, first.shape[-2], second.shape[-2], first.shape[-1])


def _check_cdist(node: Node) -> str | None:
    same_shape(node, _cdist_shape(node)[:-1])
    _check_dtype(node)
    return None


def _lower_cdist(lowering: Lowering, node: Node) -> None:
    shape = _cdist_shape(node)
    out = lowering.define(node.output, image=False)
    # PyTorch's distance of rows without elements is 0, the maximum's too.
    combine, formula, finish = _norm(_order(node.args) if shape[-1] else 1.0)
    first, second = (lowering.read(node.tensor(name)) for name in ("x1", "x2"))
    first, second = first.insert(len(first.shape) - 1), second.insert(len(second.shape) - 2)

    def values(builder: Builder, load: Load) -> Register:
        return formula(builder, builder("sub_f", builder.load(first), builder.load(second)))

    mapped = MapReduction(shape, (len(shape) - 1,), False, combine, values, finish)
    emit_reduction(lowering, node, mapped, out)


# The cosine of the angle between vectors along a dimension.


def _check_cosine(node: Node) -> str | None:
    shape = broadcast_shape(node)
    require(bool(shape), "it needs at least one dimension")
    dim = axis(node.args["dim"], len(shape))
    number(node.args["eps"], "eps")
    same_shape(node, (*shape[:dim], *shape[dim + 1 :]))
    _check_dtype(node)
    return None


def _lower_cosine(lowering: Lowering, node: Node) -> None:
    shape = broadcast_shape(node)
    dims, eps = (axis(node.args["dim"], len(shape)),), float(node.args["eps"])
    out = lowering.define(node.output, image=False)
    first, second = node.tensor("x1"), node.tensor("x2")

    def length(builder: Builder, total: Register) -> Register:
        return builder("max_f", builder("sqrt_f", total), eps)

    def product(x: Value, y: Value, finish: Finish) -> MapReduction:
        def values(builder: Builder, load: Load) -> Register:
            return builder("mul_f", load(x), load(y))

        return MapReduction(shape, dims, False, "sum", values, finish)

    lengths: list[View] = []
    for value in (first, second):
        lengths.append(lowering.temporary(f"{node.name}.length", out.shape, "float32"))
        emit_reduction(lowering, node, product(value, value, length), lengths[-1])

    def cosine(builder: Builder, total: Register) -> Register:
        for view in lengths:
            total = builder("div_f", total, builder.load(view))
        return total

    emit_reduction(lowering, node, product(first, second, cosine), out)


RECORDS = (
    OpRecord(
        "aten.pairwise_distance.default",
        "x1:T, x2:T, p=2, eps=1e-6, keepdim=False",
        lower=_lower_distance,
        check=_check_distance,
        check_attrs=_check_order,
        map_reduction=_map_distance,
    ),
    OpRecord(
        "aten.dist.default",
        "self:T, other:T, p=2",
        lower=_lower_distance,
        check=_check_distance,
        check_attrs=_check_order,
        map_reduction=_map_distance,
    ),
    OpRecord(
        "aten.cdist.default",
        "x1:T, x2:T, p=2, compute_mode=None",
        lower=_lower_cdist,
        check=_check_cdist,
        check_attrs=_check_order,
    ),
    OpRecord(
        "aten.cosine_similarity.default",
        "x1:T, x2:T, dim=1, eps=1e-8",
        lower=_lower_cosine,
        check=_check_cosine,
    ),
)
