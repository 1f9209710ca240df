"""Tensors with some elements replaced through a view: the internal operator behind in-place writes,
and PyTorch's slice_scatter and its like.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from npu_compiler.graph import Node
from npu_compiler.ops.arguments import require, same_shape
from npu_compiler.ops.record import COPYABLE, OpRecord, plain_view
from npu_compiler.ops.views import diagonal_of, select_of, slice_of
from npu_compiler.view import View, contiguous_strides

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

SCATTER_VIEW = "npu.scatter_view"
# The place that a node replaces in a view of its tensor; None where strides cannot show it.
Place = Callable[[Node, View], View | None]


def _lower(lowering: Lowering, node: Node, source: str, place: Place) -> None:
    """Write into the tensor's own memory where nothing else needs it, else into a copy: one laid
    out as PyTorch does where the place is strided in no other.
    """
    base = node.tensor("self")
    part = lowering.read(node.tensor(source))
    view = lowering.read(base)
    if lowering.may_overwrite(node, base) and (into := place(node, view)) is not None:
        lowering.overwrite(node, view)
    else:
        out = lowering.define(node.output, image=lowering.is_image(base))
        into = place(node, out)
        if into is None:
            rows = _as_torch_lays_it(lowering, node, view)
            lowering.copy(view, rows, node, name=f"{node.name}.copy")
            into = place(node, rows)
            require(into is not None, "its place is not a view of contiguous memory")
            lowering.copy(part, into or rows, node, name=node.name)
            lowering.copy(rows, out, node, name=f"{node.name}.copy")
            return
        lowering.copy(view, out, node, name=f"{node.name}.copy")
    # Padding that the place shares is zero already.
    plain = View(into.storage, into.shape, into.strides, into.offset)
    lowering.copy(part, plain, node, name=node.name)


def _as_torch_lays_it(lowering: Lowering, node: Node, view: View) -> View:
    """Memory of the shape of ``view``, its dimensions in the order that they have in PyTorch."""
    strides = node.args.get("strides") or contiguous_strides(view.shape)
    order = sorted(range(len(view.shape)), key=lambda d: -strides[d])
    shape = [view.shape[d] for d in order]
    memory = lowering.temporary(f"{node.name}.rows", shape, view.dtype)
    return memory.permute([order.index(d) for d in range(len(order))])


def _chain(node: Node, view: View) -> View | None:
    # Imported here: the registry of operators imports this module.
    from npu_compiler.ops import find_op

    place: View | None = view
    for step, index in node.args["chain"]:
        record = find_op(step.op_type)
        views = None
        if record is not None and record.view is not None and place is not None:
            views = record.view(step, place)
        place = None if views is None else views[index]
    return place


def _record(op_type: str, signature: str, place: Place) -> OpRecord:
    def check(node: Node) -> str | None:
        base, part = node.tensor("self"), node.tensor("src")
        same_shape(node, base.shape)
        require(
            base.dtype == part.dtype == node.output.dtype,
            f"self, src and result must have one dtype, got {base.dtype} and {part.dtype}",
        )
        found = place(node, plain_view(base))
        require(
            found is not None and found.shape == part.shape,
            f"src {list(part.shape)} does not fit the place that it replaces, "
            f"{None if found is None else list(found.shape)}",
        )
        return None

    return OpRecord(
        op_type,
        signature,
        lower=lambda lowering, node: _lower(lowering, node, "src", place),
        check=check,
        dtypes=COPYABLE,
    )


RECORDS = (
    OpRecord(
        SCATTER_VIEW,
        "self:T, part:T, chain, strides=None",
        lower=lambda lowering, node: _lower(lowering, node, "part", _chain),
        dtypes=COPYABLE,
    ),
    _record(
        "aten.slice_scatter.default",
        "self:T, src:T, dim=0, start=None, end=None, step=1",
        slice_of,
    ),
    _record("aten.select_scatter.default", "self:T, src:T, dim, index", select_of),
    _record(
        "aten.diagonal_scatter.default", "self:T, src:T, offset=0, dim1=0, dim2=1", diagonal_of
    ),
)
