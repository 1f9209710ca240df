"""The internal operator that a decoder layer's rotary embeddings and cache updates become; see
passes/rotary_cache.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_compiler.errors import CompilerError
from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import require
from npu_compiler.ops.attention import define_heads
from npu_compiler.ops.index_checks import INDEX_DTYPES
from npu_compiler.ops.record import FLOATS, OpRecord
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

ROTARY_CACHE = "npu.rotary_cache"


def _check(node: Node) -> str | None:
    q, k, v = (node.tensor(name) for name in ("q", "k", "v"))
    cos, sin, slots = (node.tensor(name) for name in ("cos", "sin", "slots"))
    caches = [node.tensor(name) for name in ("k_cache", "v_cache")]
    require(len(node.outputs) == 3, "it has three results")
    require(q.rank == k.rank == 4, "queries and keys must be (batch, heads, tokens, size)")
    b, _, t, d = q.shape
    g = k.shape[1]
    require(k.shape == (b, g, t, d), f"keys {list(k.shape)} do not fit queries {list(q.shape)}")
    heads_first = v.rank == 4
    if heads_first:
        require(v.shape[:3] == (b, g, t), f"values {list(v.shape)} must be [{b}, {g}, {t}, size]")
    else:
        require(
            v.rank == 3 and v.shape[:2] == (b * t, g),
            f"values {list(v.shape)} must be [{b * t}, {g}, size]",
        )
    for name, table in (("cos", cos), ("sin", sin)):
        require(
            table.rank <= 4
            and 1 <= table.shape[-1] <= d // 2
            and table.shape[-1] == cos.shape[-1]
            and all(
                n in (1, m) for n, m in zip(reversed(table.shape[:-1]), (t, 1, b), strict=False)
            ),
            f"{name} {list(table.shape)} is no table for {list(q.shape)}",
        )
    count = t if heads_first else b * t
    require(
        slots.shape == (count,) and slots.dtype in INDEX_DTYPES,
        f"slots {slots!r} must be {count} int64 or int32",
    )
    sizes = [c.shape for c in caches]
    if heads_first:
        rows = sizes[0][2] if caches[0].rank == 4 else 0
        fit = sizes == [(b, g, rows, d), (b, g, rows, v.shape[-1])]
    else:
        rows = sizes[0][0]
        fit = sizes == [(rows, g, d), (rows, *v.shape[1:])]
    require(fit, f"the caches {[list(c) for c in sizes]} do not fit")
    require(caches[0] is not caches[1], "keys and values must have a cache each")
    values = (q, k, v, *caches, *node.outputs)
    require(len({x.dtype for x in values}) == 1 and q.dtype in FLOATS, "there must be one dtype")
    require(cos.dtype in FLOATS and sin.dtype in FLOATS, "the tables must be floating-point")
    shapes = [out.shape for out in node.outputs]
    require(shapes == [q.shape, *sizes], f"the results are {shapes}")
    return None


def _split(lowering: Lowering, node: Node, view: View, shape: tuple[int, ...]) -> View:
    """``view`` with its first dimension as two."""
    found = view.reshape(shape) or lowering.contiguous(view, node).reshape(shape)
    if found is None:
        raise CompilerError(f"{node.name}: contiguous memory can be shown as {list(shape)}")
    return found


def _table(lowering: Lowering, value: Value, tokens: tuple[int, int]) -> View:
    view = lowering.read(value)
    for _ in range(4 - len(view.shape)):
        view = view.insert(0)
    b, t = tokens
    return view.expand((b, 1, t, view.shape[-1])).drop(1)


def _lower(lowering: Lowering, node: Node) -> None:
    q, k = (lowering.read(node.tensor(name)).permute((0, 2, 1, 3)) for name in ("q", "k"))
    b, t = tokens = q.shape[:2]
    v, slots = lowering.read(node.tensor("v")), lowering.read(node.tensor("slots"))
    operands: dict[str, View | None] = {
        "q": q,
        "k": k,
        "cos": _table(lowering, node.tensor("cos"), (b, t)),
        "sin": _table(lowering, node.tensor("sin"), (b, t)),
    }
    turned, keys, values = node.outputs
    operands["q_out"] = define_heads(lowering, turned).permute((0, 2, 1, 3))
    heads_first = len(v.shape) == 4
    for name, output in (("k_cache", keys), ("v_cache", values)):
        cache = lowering.update(node, node.tensor(name), output)
        # (sequences, rows, heads, size); caches with rows first are one for all sequences.
        operands[name] = cache.permute((0, 2, 1, 3)) if heads_first else cache.insert(0)
    if heads_first:
        operands["v"] = v.permute((0, 2, 1, 3))
        operands["slots"] = slots.insert(0).expand(tokens)
    else:
        operands["v"] = _split(lowering, node, v, (b, t, *v.shape[1:]))
        operands["slots"] = _split(lowering, node, slots, tokens)
    lowering.dispatch("rotary_cache", node, {}, operands)


RECORDS = (
    OpRecord(
        ROTARY_CACHE,
        "q:T, k:T, v:T, cos:T, sin:T, slots:T, k_cache:T, v_cache:T",
        lower=_lower,
        check=_check,
        dtypes=FLOATS | set(INDEX_DTYPES),
    ),
)
