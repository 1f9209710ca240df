"""Attention whose key and value heads are repeated for groups of query heads: the attention kernel
shares them itself, so that the repetition (a copy of the whole cache) disappears.
"""

from __future__ import annotations

from npu_compiler.fusions import Fusion, Replacement
from npu_compiler.fusions.parts import ATTENTION, RESHAPE
from npu_compiler.fusions.pattern import Capture, Either, Match, Op, Pattern
from npu_compiler.graph import Node, Value
from npu_compiler.ops.eager_attention import EAGER_ATTENTION

_ATTENTION_ARGS = ("query", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")


def _repeated(name: str) -> Pattern:
    """(b, h, n, d) heads, each ``g`` times in a row: (b, h * g, n, d)."""
    heads = Capture(name)
    expanded = Op(
        "aten.expand.default",
        self=Op("aten.unsqueeze.default", self=heads, dim=Capture(f"{name}_dim")),
        size=Capture(f"{name}_size"),
    )
    return Either(
        (
            Op(RESHAPE, self=expanded),
            Op(
                "aten.repeat_interleave.self_int",
                self=heads,
                repeats=Capture(f"{name}_repeats"),
                dim=Capture(f"{name}_dim"),
            ),
        )
    )


def _is_repetition(match: Match, name: str, whole: Value) -> bool:
    """Whether ``whole`` repeats the heads (dimension 1) one by one."""
    heads, dim = match.value(name), match.captures[f"{name}_dim"]
    if heads.rank != 4 or whole.rank != 4 or heads.shape[1] == 0:
        return False
    b, h, n, d = heads.shape
    groups = whole.shape[1] // h
    if whole.shape != (b, h * groups, n, d):
        return False
    if f"{name}_repeats" in match.captures:
        return dim in (1, -3)
    expanded = (b, h, groups, n, d)
    size = match.captures[f"{name}_size"]
    return (
        dim in (2, -3)
        and len(size) == 5
        and all(s in (-1, e) for s, e in zip(size, expanded, strict=True))
    )


def _rewrite(match: Match, out: Value) -> Replacement | None:
    attention = match.nodes[0]
    key, value = attention.tensor("key"), attention.tensor("value")
    if not (_is_repetition(match, "key", key) and _is_repetition(match, "value", value)):
        return None
    args = {name: attention.args[name] for name in _ATTENTION_ARGS}
    grouped = {"key": match.value("key"), "value": match.value("value"), "enable_gqa": True}
    return attention.op_type, {**args, **grouped}


def _transposes_last(node: Node) -> bool:
    """Whether the last two dimensions change places."""
    rank = node.output.rank
    return {node.args["dim0"] % rank, node.args["dim1"] % rank} == {rank - 2, rank - 1}


def _rewrite_eager(match: Match, out: Value) -> Replacement | None:
    attention = match.nodes[0]
    transposed = attention.tensor("keys").producer
    if transposed is None or not _transposes_last(transposed):
        return None
    keys, value = transposed.tensor("self"), attention.tensor("value")
    if not (_is_repetition(match, "key", keys) and _is_repetition(match, "value", value)):
        return None
    grouped = {"keys": match.value("key"), "value": match.value("value"), "rows": True}
    return attention.op_type, {**attention.args, **grouped}


FUSIONS = (
    Fusion(
        "grouped_attention",
        Op(ATTENTION, key=_repeated("key"), value=_repeated("value")),
        _rewrite,
    ),
    Fusion(
        "grouped_eager_attention",
        Op(
            EAGER_ATTENTION,
            keys=Op("aten.transpose.int", self=_repeated("key")),
            value=_repeated("value"),
            rows=False,
        ),
        _rewrite_eager,
    ),
)
