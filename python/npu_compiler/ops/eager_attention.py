"""The internal operator that attention written out (matmul, softmax, matmul) becomes; see
fusions/attention.py.

It differs from scaled_dot_product_attention as the written form does: keys come transposed (unless
they are said to be ``rows``), scores may have a soft cap, and a query that sees no key gives NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_compiler.graph import Node
from npu_compiler.ops.arguments import number, require, same_shape
from npu_compiler.ops.attention import define_heads, emit_attention
from npu_compiler.ops.index_checks import INDEX_DTYPES
from npu_compiler.ops.position_attention import check_positions, positions_view
from npu_compiler.ops.record import FLOATS, FLOATS_AND_BOOL, OpRecord

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

EAGER_ATTENTION = "npu.eager_attention"


def _fits(shape: tuple[int, ...], onto: tuple[int, ...]) -> bool:
    extra = len(onto) - len(shape)
    return extra >= 0 and all(n in (1, m) for n, m in zip(shape, onto[extra:], strict=True))


def _check(node: Node) -> str | None:
    q, keys, v = (node.tensor(name) for name in ("query", "keys", "value"))
    require(q.rank == keys.rank == v.rank >= 3, "query, keys and value must have one rank >= 3")
    m, d = q.shape[-2:]
    n, size = keys.shape[-2:] if node.args["rows"] else reversed(keys.shape[-2:])
    require(size == d >= 1 and v.shape[-2] == n, "head sizes or lengths do not fit")
    require(
        all(_fits(x.shape[:-3], q.shape[:-3]) for x in (keys, v)),
        "batch dimensions of keys and value must broadcast to the query's",
    )
    heads = {x.shape[-3] for x in (keys, v)}
    require(len(heads) == 1 and 0 not in heads, "keys and value must have the same heads")
    require(q.shape[-3] % keys.shape[-3] == 0, "the heads of keys do not divide the query's")
    mask = node.args["mask"]
    require(
        mask is None
        or (mask.dtype in FLOATS_AND_BOOL and _fits(mask.shape, (*q.shape[:-2], m, n))),
        "the mask must be bool or of floats and broadcast to the scores",
    )
    require(
        q.dtype == keys.dtype == v.dtype == node.output.dtype and q.dtype in FLOATS,
        "query, keys, value and result must have one floating dtype",
    )
    for name in ("scale", "window", "softcap"):
        number(node.args[name], name)
    require(node.args["softcap"] >= 0, f"softcap must not be negative, got {node.args['softcap']}")
    if node.args["positions"] is not None:
        check_positions(node.args["positions"], q)
    same_shape(node, (*q.shape[:-1], v.shape[-1]))
    return None


def _lower(lowering: Lowering, node: Node) -> None:
    q, keys, v = (lowering.read(node.tensor(name)) for name in ("query", "keys", "value"))
    if not node.args["rows"]:
        rank = len(keys.shape)
        keys = keys.permute((*range(rank - 2), rank - 1, rank - 2))
    mask = node.args["mask"]
    emit_attention(
        lowering,
        node,
        q,
        keys,
        v,
        define_heads(lowering, node.output),
        mask=None if mask is None else lowering.read(mask),
        positions=positions_view(lowering, node, node.tensor("query")),
        scale=float(node.args["scale"]),
        window=int(node.args["window"]),
        softcap=float(node.args["softcap"]),
        empty_is_nan=True,
    )


RECORDS = (
    OpRecord(
        EAGER_ATTENTION,
        "query:T, keys:T, value:T, mask:T?, scale, rows=False, softcap=0.0, positions:T?, window=0",
        lower=_lower,
        check=_check,
        dtypes=FLOATS_AND_BOOL | set(INDEX_DTYPES),
    ),
)
