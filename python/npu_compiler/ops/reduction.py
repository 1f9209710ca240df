"""Reductions over any dimensions: sum, mean, amax, amin, prod."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from npu_compiler.graph import Node
from npu_compiler.kernels.reduce import REDUCE_OPS
from npu_compiler.ops.arguments import axis, integers, require, same_shape
from npu_compiler.ops.record import OpRecord
from npu_compiler.view import View, merge_axes

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


def _dims(node: Node) -> list[int]:
    """The reduced dimensions, ascending; none given means all."""
    rank = node.tensor("self").rank
    given = node.args.get("dim")
    if given is None or given == []:
        return list(range(rank))
    dims = [axis(d, rank) for d in integers(given, "dim")]
    require(len(set(dims)) == len(dims), f"dim {given} names a dimension twice")
    return sorted(dims) if rank else []


def _reduced_shape(node: Node) -> tuple[int, ...]:
    x, dims = node.tensor("self"), _dims(node)
    if node.args.get("keepdim"):
        return tuple(1 if d in dims else n for d, n in enumerate(x.shape))
    return tuple(n for d, n in enumerate(x.shape) if d not in dims)


def _check(op: str) -> Callable[[Node], str | None]:
    def check(node: Node) -> str | None:
        x = node.tensor("self")
        same_shape(node, _reduced_shape(node))
        empty = any(x.shape[d] == 0 for d in _dims(node))
        require(
            not empty or op not in ("max", "min"),
            f"{op} over an empty dimension of {list(x.shape)}",
        )
        return None

    return check


def _lower(op: str) -> Callable[[Lowering, Node], None]:
    def lower(lowering: Lowering, node: Node) -> None:
        source = node.tensor("self")
        x = lowering.read(source)
        dtype = lowering.precision.storage(node.output.dtype)
        if x.dtype != dtype:
            x = lowering.contiguous(x, node, dtype)
        dims = _dims(node)
        kept = [d for d in range(len(x.shape)) if d not in dims]
        spatial = lowering.is_image(source) and 1 not in dims
        y = lowering.define(node.output, image=spatial)
        out = y
        if node.args.get("keepdim"):
            for d in reversed(dims):
                y = y.drop(d)
        exists = all(x.shape[d] for d in dims)
        padded_x = x.pad is not None and x.pad[0] in kept
        if exists and y.pad is not None and padded_x:
            whole, target = x.padded(), y.padded()
            if tuple(whole.shape[d] for d in kept) == target.shape:
                x, y = whole, target
        _emit(lowering, node, op, x, y, kept, dims)
        if out.pad is not None and y.numel == out.numel:
            lowering.zero_padding(out, node, f"{'+'.join(node.origins)}.padding")

    return lower


def _emit(
    lowering: Lowering, node: Node, op: str, x: View, y: View, kept: list[int], dims: list[int]
) -> None:
    fields = {"op": REDUCE_OPS[op]}
    for candidate in (x, None):
        view = candidate if candidate is not None else lowering.contiguous(x, node)
        found = _split(view, y, kept, dims)
        if found is not None:
            lowering.dispatch("reduce", node, fields, dict(zip("xy", found, strict=True)))
            return
    rows = lowering.temporary(f"{node.name}.rows", y.shape, y.dtype)
    order = lowering.contiguous(x.permute([*kept, *dims]), node)
    at = len(kept)
    found = _split(order, rows, list(range(at)), list(range(at, len(order.shape))))
    if found is None:
        raise ValueError(f"a contiguous view of {list(order.shape)} merges for the reduction")
    lowering.dispatch("reduce", node, fields, dict(zip("xy", found, strict=True)))
    lowering.copy(rows, y, node, name=f"{node.name}.copy")


def _split(x: View, y: View, kept: list[int], dims: list[int]) -> tuple[View, View] | None:
    """``x`` as (a, b, c, k, l) and ``y`` as (a, b, c), with dimensions merged as the strides of
    both allow.
    """
    for cut in range(len(dims) + 1):
        taps = [dims[:cut], dims[cut:]]
        for at in range(len(kept) + 1):
            for to in range(at, len(kept) + 1):
                rows = [kept[:at], kept[at:to], kept[to:]]
                images = merge_axes([x], [*rows, *taps])
                order = [[kept.index(d) for d in group] for group in rows]
                results = merge_axes([y], order)
                if images is not None and results is not None:
                    return images[0], results[0]
    return None


_SIGNATURES = {
    "mean": (
        ("dim", "self:T, dim=None, keepdim=False, dtype=None"),
        ("default", "self:T, dtype=None"),
    ),
    "sum": (
        ("dim_IntList", "self:T, dim=None, keepdim=False, dtype=None"),
        ("default", "self:T, dtype=None"),
    ),
    "amax": (("default", "self:T, dim=None, keepdim=False"),),
    "amin": (("default", "self:T, dim=None, keepdim=False"),),
    "max": (("default", "self:T"),),
    "min": (("default", "self:T"),),
    "prod": (
        ("dim_int", "self:T, dim, keepdim=False, dtype=None"),
        ("default", "self:T, dtype=None"),
    ),
}
_KERNEL_OPS = {"amax": "max", "amin": "min"}
RECORDS = tuple(
    OpRecord(
        f"aten.{name}.{overload}",
        signature,
        lower=_lower(_KERNEL_OPS.get(name, name)),
        check=_check(_KERNEL_OPS.get(name, name)),
    )
    for name, overloads in _SIGNATURES.items()
    for overload, signature in overloads
)
