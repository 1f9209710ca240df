"""From indexed reads and writes to gather and scatter dispatches.

Both kernels know three plain axes (a, b, c), one axis r along which indices change, and the indexed
axis k. Views of any rank are brought to that form: axes that all operands walk alike are merged,
and where more are left, several dispatches share the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from npu_compiler.errors import CompilerError
from npu_compiler.graph import Node
from npu_compiler.kernels.scatter import SCATTER_OPS
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

_PLAIN_AXES = 3


@dataclass(frozen=True, slots=True)
class Indexed:
    """The indexed side of a gather or scatter: ``view`` has the shape of the index and stride 0
    where the index decides; ``extent`` and ``stride`` (elements) are those of the indexed axis.
    """

    view: View
    extent: int
    stride: int

    @classmethod
    def of(cls, view: View, dim: int, shape: Sequence[int]) -> Indexed:
        """``view`` indexed along ``dim`` by an index of ``shape`` (view's rank, no larger)."""
        extent, stride = view.shape[dim], view.strides[dim]
        strides = (*view.strides[:dim], 0, *view.strides[dim + 1 :])
        return cls(View(view.storage, tuple(shape), strides, view.offset), extent, stride)


@dataclass(frozen=True, slots=True)
class _Axis:
    size: int
    strides: tuple[int, ...]  # of each view


def emit_gather(
    lowering: Lowering,
    node: Node,
    x: Indexed,
    index: View,
    out: View,
    *,
    wrap: bool = True,
    name: str | None = None,
    is_copy: bool = False,
) -> None:
    """out[...] = x[..., index[...], ...]; all three views have one shape. ``out``'s padding is zero
    afterwards.
    """
    whole = View(out.storage, out.shape, out.strides, out.offset)
    fields = {"wrap": int(wrap)}
    for axes, offsets in _canonical([whole, x.view, index], indexed=1):
        y, source, idx = (
            _four(view, k, axes, offsets) for k, view in enumerate((whole, x.view, index))
        )
        shape, strides = list(source.shape), list(source.strides)
        shape[2], strides[2] = x.extent, x.stride
        source = View(source.storage, tuple(shape), tuple(strides), source.offset)
        operands = {"x": source, "idx": idx, "y": y}
        lowering.dispatch("gather", node, fields, operands, name=name, is_copy=is_copy)
    if out.pad is not None:
        lowering.zero_padding(out, node, f"{name or '+'.join(node.origins)}.padding")


def emit_scatter(
    lowering: Lowering,
    node: Node,
    y: Indexed,
    index: View,
    source: View,
    op: str = "set",
    *,
    wrap: bool = True,
) -> None:
    """y[..., index[...], ...] op= source[...], in order along the one axis on which the index
    decides; all views have one shape.
    """
    fields = {"op": SCATTER_OPS[op], "wrap": int(wrap)}
    for axes, offsets in _canonical([y.view, index, source], 0, y.stride):
        target, idx, src = (
            _four(view, k, axes, offsets) for k, view in enumerate((y.view, index, source))
        )
        shape, strides = list(target.shape), list(target.strides)
        shape[2], strides[2] = y.extent, y.stride
        target = View(target.storage, tuple(shape), tuple(strides), target.offset)
        lowering.dispatch("scatter", node, fields, {"idx": idx, "src": src, "y": target})


def _four(view: View, number: int, axes: Sequence[_Axis], offsets: Sequence[int]) -> View:
    return View(
        view.storage,
        tuple(axis.size for axis in axes),
        tuple(axis.strides[number] for axis in axes),
        offsets[number],
    )


def _canonical(
    views: Sequence[View], indexed: int, step: int | None = None
) -> list[tuple[list[_Axis], tuple[int, ...]]]:
    """Axes (a, b, r, c) and offsets of the views, for each dispatch; none for an empty shape.

    Axes are ordered by the first view's strides; r is an axis on which view ``indexed`` stands
    still. ``step``: how far the first view moves from one r to the next, where it does not say.
    """
    shape = views[0].shape
    if prod(shape) == 0:
        return []
    single = _Axis(1, (0,) * len(views))
    axes = _merged(views)
    still = [axis for axis in axes if axis.strides[indexed] == 0]
    if indexed == 0 and len(still) > 1:
        raise CompilerError(f"a scatter along {len(still)} axes at once: {list(shape)}")
    row = still[-1] if still else single
    plain = [axis for axis in axes if axis is not row]
    offsets = [tuple(v.offset for v in views)]
    # c is the innermost axis; where r is, it is left out if a and b suffice.
    step = row.strides[0] if step is None else step
    inside = len(plain) < _PLAIN_AXES and bool(plain) and step < plain[-1].strides[0]
    if inside:
        plain.append(single)
    while len(plain) > _PLAIN_AXES:
        axis = plain.pop(min(range(len(plain)), key=lambda i: plain[i].size))
        offsets = [
            tuple(o + i * s for o, s in zip(start, axis.strides, strict=True))
            for start in offsets
            for i in range(axis.size)
        ]
    plain = [single] * (_PLAIN_AXES - len(plain)) + plain
    return [([plain[0], plain[1], row, plain[2]], start) for start in offsets]


def _merged(views: Sequence[View]) -> list[_Axis]:
    shape = views[0].shape
    order = sorted(
        (d for d in range(len(shape)) if shape[d] != 1), key=lambda d: -abs(views[0].strides[d])
    )
    axes: list[_Axis] = []
    for d in order:
        axis = _Axis(shape[d], tuple(v.strides[d] for v in views))
        outer = axes[-1] if axes else None
        if outer is not None and all(
            o == i * axis.size for o, i in zip(outer.strides, axis.strides, strict=True)
        ):
            axes[-1] = _Axis(outer.size * axis.size, axis.strides)
        else:
            axes.append(axis)
    return axes
