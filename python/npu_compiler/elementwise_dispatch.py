"""From an elementwise program to dispatches: broadcasting, padding, and collapsing the iteration
space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Literal

from npu_compiler.elementwise import Accumulator, Builder, Handle, Register
from npu_compiler.errors import CompilerError
from npu_compiler.graph import Node
from npu_compiler.kernels.elementwise import AXES
from npu_compiler.kernels.scalar_ops import MAX_INPUTS, MAX_INSTRUCTIONS, MAX_OUTPUTS
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


def emit_program(
    lowering: Lowering,
    out: View,
    builder: Builder,
    result: Register,
    node: Node | None,
    *,
    name: str | None = None,
    is_copy: bool = False,
) -> None:
    """Run ``builder``'s program over ``out``, whose padding is zero afterwards."""
    emit_outputs(lowering, [(out, result)], builder, node, name=name, is_copy=is_copy)


def emit_outputs(
    lowering: Lowering,
    results: Sequence[tuple[View, Register]],
    builder: Builder,
    node: Node | None,
    *,
    name: str | None = None,
    is_copy: bool = False,
) -> None:
    """Run ``builder``'s program once for several results of one shape.

    Where the program provably maps zero padding to zero, the padding is computed along with the
    rest; otherwise only the logical elements are and other dispatches fill the padding.
    """
    outs = [out for out, _ in results]
    registers = [builder.result_for(result, out.dtype) for out, result in results]
    handles = builder.used_inputs(*registers)
    views = {handle: operand_view(lowering, handle, outs[0]) for handle in handles}
    targets, unfilled = outs, [out for out in outs if out.pad is not None]
    pads = {out.pad for out in outs}
    if len(pads) == 1 and (pad := pads.pop()) is not None:
        dim, extent = pad
        padding = Padding(len(outs[0].shape), dim, outs[0].shape[dim], extent)
        lanes = {handle: padding.lane(view) for handle, view in views.items()}
        values = {h: 0.0 if lane == "zero" else None for h, lane in lanes.items()}
        stays_zero = all(builder.evaluate(r, values) == 0 for r in registers)
        if "nothing" not in lanes.values() and stays_zero:
            targets, unfilled = [out.padded() for out in outs], []
            views = {handle: padding.extend(view) for handle, view in views.items()}
    operands = [v.expand(targets[0].shape) for v in views.values()]
    code, count = builder.encode(*registers)
    fields = {
        "num_instructions": count,
        "code": code + [0] * (4 * MAX_INSTRUCTIONS - len(code)),
    }
    for collapsed in _collapse([replace(v, pad=None) for v in (*targets, *operands)]):
        bound: dict[str, View | None] = {f"in{k}": None for k in range(MAX_INPUTS)}
        bound |= {f"in{k}": view for k, view in enumerate(collapsed[len(outs) :])}
        bound |= {f"out{k}": None for k in range(MAX_OUTPUTS)}
        bound |= {f"out{k}": view for k, view in enumerate(collapsed[: len(outs)])}
        lowering.dispatch("elementwise", node, fields, bound, name=name, is_copy=is_copy)
    for out in unfilled:
        label = name or ("+".join(node.origins) if node is not None else "")
        lowering.zero_padding(out, node, f"{label}.padding")


def operand_view(lowering: Lowering, handle: Handle, out: View) -> View:
    """Where a program that writes ``out`` reads an input."""
    if isinstance(handle, View):
        return handle
    if isinstance(handle, Accumulator):
        raise CompilerError("an accumulator is no operand of a dispatch")
    if handle.is_parameter:
        return lowering.broadcast_parameter(handle, out)
    return lowering.read(handle)


@dataclass(frozen=True, slots=True)
class Padding:
    """The padded dimension of a result of rank ``rank``: its logical size and its padded extent."""

    rank: int
    dim: int
    size: int
    extent: int

    def dim_of(self, view: View) -> int:
        """The dimension of ``view`` that broadcasts against the padded one; negative: none."""
        return self.dim - (self.rank - len(view.shape))

    def lane(self, view: View) -> Literal["zero", "anything", "nothing"]:
        """What a padded lane reads from ``view``: zero padding, a broadcast value, or nothing."""
        dim = self.dim_of(view)
        if (
            dim >= 0
            and view.pad is not None
            and view.pad[0] == dim
            and view.shape[dim] == self.size
        ):
            return "zero" if view.pad[1] >= self.extent else "nothing"
        return "anything" if dim < 0 or view.shape[dim] == 1 else "nothing"

    def extend(self, view: View) -> View:
        """``view`` with its zero padding as ordinary elements; a broadcast one stays as it is."""
        if self.lane(view) != "zero":
            return replace(view, pad=None)
        dim = self.dim_of(view)
        shape = (*view.shape[:dim], self.extent, *view.shape[dim + 1 :])
        return View(view.storage, shape, view.strides, view.offset)


def _collapse(views: list[View]) -> list[list[View]]:
    """Views of equal shape with dimensions ordered by the first view's strides, merged where all
    views allow, and brought to the kernel's number of axes; nothing for an empty shape. More
    dimensions than the kernel has are split into several sets.
    """
    shape = views[0].shape
    if prod(shape) == 0:
        return []
    order = sorted(
        (d for d in range(len(shape)) if shape[d] != 1), key=lambda d: -abs(views[0].strides[d])
    )
    dims: list[tuple[int, tuple[int, ...]]] = []
    for d in order:
        size, strides = shape[d], tuple(v.strides[d] for v in views)
        if dims and all(
            outer == inner * size for outer, inner in zip(dims[-1][1], strides, strict=True)
        ):
            dims[-1] = (dims[-1][0] * size, strides)
        else:
            dims.append((size, strides))
    offsets = [[v.offset for v in views]]
    while len(dims) > len(AXES):
        at = min(range(len(dims)), key=lambda i: dims[i][0])
        size, strides = dims.pop(at)
        offsets = [
            [o + i * s for o, s in zip(start, strides, strict=True)]
            for start in offsets
            for i in range(size)
        ]
    missing = len(AXES) - len(dims)
    sizes = (1,) * missing + tuple(size for size, _ in dims)
    return [
        [
            View(v.storage, sizes, (0,) * missing + tuple(s[k] for _, s in dims), start[k])
            for k, v in enumerate(views)
        ]
        for start in offsets
    ]
