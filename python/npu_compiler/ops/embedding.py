"""Embedding tables and index_select: rows picked by an index tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_compiler.graph import Node
from npu_compiler.index_dispatch import Indexed, emit_gather
from npu_compiler.ops.arguments import axis, require, same_shape
from npu_compiler.ops.index_checks import INDEXABLE, check_index, same_dtypes
from npu_compiler.ops.record import OpRecord
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


def _check_embedding(node: Node) -> str | None:
    weight, indices = node.tensor("weight"), node.tensor("indices")
    require(weight.rank == 2, f"the table must be 2-D, got {list(weight.shape)}")
    check_index(indices, "indices")
    same_dtypes(weight, node.output)
    same_shape(node, (*indices.shape, weight.shape[1]))
    return None


def _lower_embedding(lowering: Lowering, node: Node) -> None:
    table = lowering.read(node.tensor("weight"))
    index = lowering.read(node.tensor("indices"))
    out = lowering.define(node.output, image=False, strided=True)
    rank = len(index.shape)
    rows = View(table.storage, out.shape, (*((0,) * rank), table.strides[1]), table.offset)
    x = Indexed(rows, table.shape[0], table.strides[0])
    emit_gather(lowering, node, x, index.insert(rank).expand(out.shape), out, wrap=False)


def _check_index_select(node: Node) -> str | None:
    x, index = node.tensor("self"), node.tensor("index")
    check_index(index, "index")
    require(index.rank <= 1, f"the index must be 1-D, got {list(index.shape)}")
    require(x.rank >= 1, "a 0-d tensor has no dimension to select from")
    same_dtypes(x, node.output)
    dim = axis(node.args["dim"], x.rank)
    same_shape(node, (*x.shape[:dim], index.numel, *x.shape[dim + 1 :]))
    return None


def _lower_index_select(lowering: Lowering, node: Node) -> None:
    x = lowering.read(node.tensor("self"))
    index = lowering.read(node.tensor("index"))
    out = lowering.define(node.output, image=lowering.is_image(node.tensor("self")), strided=True)
    dim = axis(node.args["dim"], len(x.shape))
    select_along(lowering, node, x, index, dim, out)


def select_along(
    lowering: Lowering,
    node: Node,
    x: View,
    index: View,
    dim: int,
    out: View,
    *,
    wrap: bool = False,
    name: str | None = None,
    is_copy: bool = False,
) -> None:
    """``out``: the elements of ``x`` at a 1-D (or 0-d) ``index`` along ``dim``. Padding that both
    share is picked along with the rest.
    """
    if out.pad is not None and x.pad == out.pad and out.pad[0] != dim:
        x, out = x.padded(), out.padded()
    picks = View(
        index.storage,
        out.shape,
        tuple(index.strides[0] if d == dim and index.strides else 0 for d in range(len(out.shape))),
        index.offset,
    )
    source = Indexed.of(x, dim, out.shape)
    emit_gather(lowering, node, source, picks, out, wrap=wrap, name=name, is_copy=is_copy)


RECORDS = (
    OpRecord(
        "aten.embedding.default",
        "weight:T, indices:T, padding_idx=-1, scale_grad_by_freq=False, sparse=False",
        lower=_lower_embedding,
        check=_check_embedding,
        dtypes=INDEXABLE,
    ),
    OpRecord(
        "aten.index_select.default",
        "self:T, dim, index:T",
        lower=_lower_index_select,
        check=_check_index_select,
        dtypes=INDEXABLE,
    ),
)
