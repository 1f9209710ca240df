"""Rows: dimensions of tensors brought to the axes of row-wise kernels, by strides where they allow
it.

Such a kernel has row axes (a, b, c as far as it goes) and element axes behind them; a reduction's
results have row axes alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from npu_compiler.dtypes import FLOATING
from npu_compiler.errors import CompilerError
from npu_compiler.graph import Node, Value
from npu_compiler.kernels import KERNELS
from npu_compiler.program.recipes import RecipeStep
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

_ROW_AXES = frozenset("abc")
Axes = list[tuple[int, int]]
Views = Mapping[str, View | None]


def merged_axes(views: Sequence[View], dims: Sequence[int], count: int) -> list[Axes] | None:
    """``dims`` of each view as ``count`` axes of (size, stride); None where strides forbid it.

    The order of ``dims`` does not matter; those of size 1 go.
    """
    if len(dims) == 1:
        (d,) = dims
        return [[(1, 0)] * (count - 1) + [(v.shape[d], v.strides[d])] for v in views]
    shape = views[0].shape
    if any(shape[d] == 0 for d in dims):
        return [[(1, 0)] * (count - 1) + [(0, 0)] for _ in views]
    found: list[tuple[int, tuple[int, ...]]] = []
    kept = [d for d in dims if shape[d] != 1]
    for d in sorted(kept, key=lambda d: [-abs(v.strides[d]) for v in views]):
        size, strides = shape[d], tuple(v.strides[d] for v in views)
        if found and all(o == s * size for o, s in zip(found[-1][1], strides, strict=True)):
            found[-1] = (found[-1][0] * size, strides)
        else:
            found.append((size, strides))
    if len(found) > count:
        return None
    missing = [(1, 0)] * (count - len(found))
    return [missing + [(size, strides[k]) for size, strides in found] for k in range(len(views))]


def _bound(
    kernel: str, views: Mapping[str, View], dims: Sequence[int]
) -> dict[str, View | None] | None:
    """Every view with the axes of its operand; None where some strides forbid it."""
    record = KERNELS[kernel]
    axes = record.operand("x").axes
    rows = sum(a in _ROW_AXES for a in axes)
    names = list(views)
    # A result without element axes stands beside the others with dimensions of size 1.
    full = [n for n in names if len(record.operand(n).axes) == len(axes)]
    spread = dict(views)
    for name in set(names) - set(full):
        for d in sorted(dims):
            spread[name] = spread[name].insert(d)
    kept = [d for d in range(len(views["x"].shape)) if d not in dims]
    outer = merged_axes([spread[n] for n in names], kept, rows)
    inner = merged_axes([spread[n] for n in full], dims, len(axes) - rows)
    if outer is None or inner is None:
        return None
    found: dict[str, View | None] = {o.name: None for o in record.operands}
    for name, place in zip(names, outer, strict=True):
        parts = place + (inner[full.index(name)] if name in full else [])
        view = views[name]
        shape, strides = tuple(n for n, _ in parts), tuple(s for _, s in parts)
        found[name] = View(view.storage, shape, strides, view.offset)
    return found


def emit_rows(
    lowering: Lowering,
    node: Node,
    kernel: str,
    fields: Mapping[str, Any],
    dims: Sequence[int],
    reads: Views,
    writes: Views,
) -> None:
    """Run ``kernel`` over the rows along ``dims`` of ``reads["x"]``. Operands that are None are
    absent; results of a reduction lack ``dims``. Where strides forbid it, operands are copied.
    """
    inputs = {n: replace(v, pad=None) for n, v in reads.items() if v is not None}
    outputs = {n: replace(v, pad=None) for n, v in writes.items() if v is not None}
    found = _bound(kernel, {**inputs, **outputs}, dims)
    if found is not None:
        lowering.dispatch(kernel, node, fields, found)
        return
    rank = len(inputs["x"].shape)
    order = [*(d for d in range(rank) if d not in dims), *dims]
    last = list(range(rank - len(dims), rank))
    copied = {n: lowering.contiguous(v.permute(order), node) for n, v in inputs.items()}
    ordered = {n: v.permute(order) if len(v.shape) == rank else v for n, v in outputs.items()}
    found = _bound(kernel, {**copied, **ordered}, last)
    if found is not None:
        lowering.dispatch(kernel, node, fields, found)
        return
    whole = {
        n: lowering.temporary(f"{node.name}.{n}", v.shape, v.dtype) for n, v in ordered.items()
    }
    found = _bound(kernel, {**copied, **whole}, last)
    if found is None:
        raise CompilerError(f"{node.name}: contiguous operands of {kernel} do not merge")
    lowering.dispatch(kernel, node, fields, found)
    for name, view in ordered.items():
        lowering.copy(whole[name], view, node, name=f"{node.name}.copy")


def zero_paddings(lowering: Lowering, node: Node, *views: View | None) -> None:
    """Fill the padding of results."""
    for view in views:
        if view is not None and view.pad is not None:
            lowering.zero_padding(view, node, f"{'+'.join(node.origins)}.padding")


def narrowed(lowering: Lowering, node: Node, x: View, result: Value) -> View:
    """``x`` in the dtype of a floating ``result`` that holds less, as ``dtype=`` asks for: PyTorch
    rounds before it computes."""
    dtype = lowering.precision.storage(result.dtype)
    if x.dtype not in FLOATING or dtype not in FLOATING or dtype in (x.dtype, "float32"):
        return x
    return lowering.contiguous(x, node, dtype)


def with_axis(view: View) -> View:
    """A 0-d view as one of a single element."""
    return view if view.shape else view.insert(0)


def parameter_rows(
    lowering: Lowering,
    value: Value | None,
    dims: Sequence[int],
    shape: Sequence[int],
    steps: Sequence[RecipeStep] = (),
) -> View | None:
    """A norm's weight or bias, whose dimensions are ``dims`` of ``shape``, broadcast to it;
    ``steps`` make it of a parameter.
    """
    if value is None:
        return None
    if value.is_parameter:
        view = lowering.parameter(value, steps, "float32")
    else:
        view = lowering.read(value)
    for d in range(len(shape)):
        if d not in dims:
            view = view.insert(d)
    return view.expand(shape)
