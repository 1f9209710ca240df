"""The internal operator that attention with a mask of positions becomes; see
passes/position_masks.py.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import number, require
from npu_compiler.ops.attention import check_heads, define_heads, emit_attention
from npu_compiler.ops.index_checks import INDEX_DTYPES
from npu_compiler.ops.record import FLOATS, OpRecord
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

POSITION_ATTENTION = "npu.position_attention"


def check_positions(positions: Value, query: Value) -> None:
    """Refuse positions that are not one number per query (..., 1, m or 1, 1)."""
    shape = positions.shape
    require(
        positions.dtype in INDEX_DTYPES,
        f"positions must be int64 or int32, got {positions.dtype}",
    )
    onto = (*query.shape[:-3], 1, query.shape[-2], 1)
    extra = len(onto) - len(shape)
    require(
        query.rank >= 3
        and len(shape) >= 2
        and extra >= 0
        and all(n in (1, m) for n, m in zip(shape, onto[extra:], strict=True)),
        f"positions {list(shape)} are not one per query {list(query.shape)}",
    )


def positions_view(lowering: Lowering, node: Node, query: Value) -> View | None:
    """The node's positions, if any, as a view (..., m)."""
    positions = node.args["positions"]
    if positions is None:
        return None
    view = lowering.read(positions)
    for _ in range(query.rank - positions.rank):
        view = view.insert(0)
    view = view.expand((*query.shape[:-3], 1, query.shape[-2], 1))
    return view.drop(query.rank - 1).drop(query.rank - 3)


def _check(node: Node) -> str | None:
    check_heads(node)
    check_positions(node.tensor("positions"), node.tensor("query"))
    number(node.args["window"], "window")
    return None


def _lower(lowering: Lowering, node: Node) -> None:
    query = node.tensor("query")
    q, k, v = (lowering.read(node.tensor(name)) for name in ("query", "key", "value"))
    scale = node.args["scale"]
    emit_attention(
        lowering,
        node,
        q,
        k,
        v,
        define_heads(lowering, node.output),
        positions=positions_view(lowering, node, query),
        window=int(node.args["window"]),
        scale=1 / sqrt(q.shape[-1]) if scale is None else float(scale),
    )


RECORDS = (
    OpRecord(
        POSITION_ATTENTION,
        "query:T, key:T, value:T, positions:T, window=0, scale=None, enable_gqa=False",
        lower=_lower,
        check=_check,
        dtypes=FLOATS | set(INDEX_DTYPES),
    ),
)
