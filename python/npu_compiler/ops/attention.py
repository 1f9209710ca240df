"""Scaled dot product attention: records and lowering to the attention kernel.

Grouped and broadcast heads, masks of any broadcast shape and operands of any strides are read where
they are. Results lie in memory as (batch, query, head, size), since what follows nearly always
joins the heads again.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import TYPE_CHECKING, Any

from npu_compiler.elementwise import to_float32
from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import number, require, same_shape
from npu_compiler.ops.record import FLOATS, FLOATS_AND_BOOL, OpRecord
from npu_compiler.view import View, merge_axes

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


def emit_attention(
    lowering: Lowering,
    node: Node,
    q: View,
    k: View,
    v: View,
    out: View,
    *,
    mask: View | None = None,
    positions: View | None = None,
    scale: float,
    causal: bool = False,
    window: int = 0,
    softcap: float = 0.0,
    empty_is_nan: bool = False,
) -> None:
    """out = softmax(scale * q k^T + mask) v for q (..., h, m, d), k and v (..., heads, n, ...) with
    h a multiple of heads, mask (..., h, m, n); batch dimensions and masks broadcast.

    With ``positions`` (..., m) query m sees no key behind positions[..., m]; with ``window`` only
    that many keys up to there; ``softcap`` limits scores by tanh. A query that sees no key gives
    zeros, or NaN with ``empty_is_nan``. The padding of ``out`` is zero afterwards. Copies operands
    whose strides cannot merge more than one batch dimension.
    """
    batch = out.shape[:-3] or (1,)
    heads, rows = out.shape[-3:-1] if len(out.shape) > 2 else (1, out.shape[0])
    keys = k.shape[-2]
    kv_heads = max((x.shape[-3] if len(x.shape) > 2 else 1) for x in (k, v))

    def operand(view: View, count: int, size: tuple[int, ...]) -> View:
        return _four(lowering, node, view.expand((*batch, count, *size)))

    operands: dict[str, View | None] = {
        "q": operand(q, heads, q.shape[-2:]),
        "k": operand(k, kv_heads, k.shape[-2:]),
        "v": operand(v, kv_heads, v.shape[-2:]),
        "mask": None if mask is None else operand(mask, heads, (rows, keys)),
        "positions": None,
    }
    if positions is not None:
        last = len(positions.shape)
        places = operand(positions.insert(last).insert(last - 1), 1, (rows, 1))
        operands["positions"] = View(
            places.storage,
            (places.shape[0], rows),
            (places.strides[0], places.strides[2]),
            places.offset,
        )
    whole = out
    for _ in range(4 - len(out.shape)):
        whole = whole.insert(0)
    merged = _merged(whole)
    target = whole
    if merged is None:
        target = lowering.temporary(f"{node.name}.heads", whole.shape, whole.dtype)
        merged = _merged(target)
    operands["y"] = merged
    fields = {
        "scale": to_float32(scale),
        "causal": int(causal),
        "empty_is_nan": int(empty_is_nan),
        "window": window,
        "softcap": to_float32(softcap),
    }
    lowering.dispatch("attention", node, fields, operands)
    if target is not whole:
        lowering.copy(target, whole, node, name=f"{node.name}.copy")
    elif out.pad is not None:
        lowering.zero_padding(out, node, f"{'+'.join(node.origins)}.padding")


def _merged(view: View) -> View | None:
    """The view with all batch dimensions as one, or None where strides forbid it."""
    batch = len(view.shape) - 3
    groups = [list(range(batch)), [batch], [batch + 1], [batch + 2]]
    merged = merge_axes([view], groups)
    return None if merged is None else merged[0]


def _four(lowering: Lowering, node: Node, view: View) -> View:
    return _merged(view) or _merged(lowering.contiguous(view, node)) or view


def define_heads(lowering: Lowering, value: Value) -> View:
    """Memory for a result (..., h, m, d) that lies as (..., m, h, d); an output of the graph has
    the layout that outputs have.
    """
    if value.rank < 3 or any(value is output for output in lowering.graph.outputs):
        return lowering.define(value, image=False)
    shape = value.shape
    order = (*range(value.rank - 3), value.rank - 2, value.rank - 3, value.rank - 1)
    dtype = lowering.precision.storage(value.dtype)
    stored = lowering.temporary(value.name, [shape[a] for a in order], dtype)
    lowering.alias(value, stored.permute(order))
    return stored.permute(order)


def _mask(node: Node) -> Value | None:
    mask = node.args["attn_mask"]
    return mask if isinstance(mask, Value) else None


def _fits(shape: tuple[int, ...], onto: tuple[int, ...]) -> bool:
    """Whether ``shape`` broadcasts to ``onto``."""
    extra = len(onto) - len(shape)
    return extra >= 0 and all(n in (1, m) for n, m in zip(shape, onto[extra:], strict=True))


def _check_attrs(args: Mapping[str, Any]) -> str | None:
    dropout = number(args["dropout_p"], "dropout_p")
    require(dropout == 0, f"dropout_p must be 0 (inference), got {dropout}")
    if args["scale"] is not None:
        number(args["scale"], "scale")
    return None


def check_heads(node: Node) -> None:
    """Refuse queries, keys, values and a result whose dtypes, sizes or heads do not fit."""
    q, k, v = (node.tensor(name) for name in ("query", "key", "value"))
    shapes = f"query {list(q.shape)}, key {list(k.shape)}, value {list(v.shape)}"
    require(
        min(q.rank, k.rank, v.rank) >= 2 and q.rank == k.rank == v.rank,
        f"query, key and value must have one rank of at least 2, got {shapes}",
    )
    require(
        q.shape[-1] == k.shape[-1] >= 1 and k.shape[-2] == v.shape[-2],
        f"head sizes or lengths do not fit: {shapes}",
    )
    require(
        q.dtype == k.dtype == v.dtype == node.output.dtype and q.dtype in FLOATS,
        f"query, key, value and result must have one floating dtype, got {q.dtype}, {k.dtype}, "
        f"{v.dtype}, {node.output.dtype}",
    )
    out = (*q.shape[:-1], v.shape[-1])
    same_shape(node, out)
    if q.rank > 2:
        heads = {x.shape[-3] for x in (k, v)} - {1}
        grouped = bool(node.args.get("enable_gqa", False))
        count = max(heads, default=1)
        require(
            len(heads) <= 1
            and 0 not in heads
            and q.shape[-3] % count == 0
            and (grouped or count in (1, q.shape[-3])),
            f"{q.shape[-3]} heads of queries do not fit the heads of keys and values "
            f"({shapes}, enable_gqa={grouped})",
        )
        require(
            all(_fits(x.shape[:-3], q.shape[:-3]) for x in (k, v)),
            f"batch dimensions of key and value must broadcast to the query's: {shapes}",
        )


def _check(node: Node) -> str | None:
    check_heads(node)
    q, k = node.tensor("query"), node.tensor("key")
    mask = _mask(node)
    if mask is not None:
        scores = (*q.shape[:-1], k.shape[-2])
        require(
            _fits(mask.shape, scores),
            f"the mask {list(mask.shape)} does not broadcast to the scores {list(scores)}",
        )
        require(not node.args.get("is_causal", False), "a mask and is_causal exclude each other")
    return None


def _lower(lowering: Lowering, node: Node) -> None:
    q, k, v = (lowering.read(node.tensor(name)) for name in ("query", "key", "value"))
    mask = _mask(node)
    scale = node.args["scale"]
    emit_attention(
        lowering,
        node,
        q,
        k,
        v,
        define_heads(lowering, node.output),
        mask=None if mask is None else lowering.read(mask),
        scale=1 / sqrt(q.shape[-1]) if scale is None else float(scale),
        causal=bool(node.args["is_causal"]),
    )


_QKV = "query:T, key:T, value:T"
RECORDS = tuple(
    OpRecord(
        f"aten.{name}.default",
        f"{_QKV}, {rest}",
        lower=_lower,
        check_attrs=_check_attrs,
        check=_check,
        dtypes=FLOATS_AND_BOOL,
        single_output=True,
    )
    for name, rest in (
        (
            "scaled_dot_product_attention",
            "attn_mask:T?, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False",
        ),
        (
            "_scaled_dot_product_flash_attention_for_cpu",
            "dropout_p=0.0, is_causal=False, attn_mask:T?, scale=None",
        ),
        (
            "_scaled_dot_product_attention_math",
            "attn_mask:T?, dropout_p=0.0, is_causal=False, dropout_mask:T?, scale=None, "
            "enable_gqa=False",
        ),
    )
)
