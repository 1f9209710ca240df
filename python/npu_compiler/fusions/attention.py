"""Attention written out: softmax(q keys * scale + mask) v, with any head size and length, perhaps
with a soft cap (Gemma 2): softmax(c tanh(q keys * scale / c) + mask) v. The attention kernel never
stores the matrix of scores.
"""

from __future__ import annotations

from math import inf

from npu_compiler.fusions import Fusion, Replacement
from npu_compiler.fusions.parts import DIV, MUL, SOFTMAX, add
from npu_compiler.fusions.pattern import Capture, Cast, Either, Match, Number, Op, Pattern
from npu_compiler.graph import Value
from npu_compiler.ops.eager_attention import EAGER_ATTENTION


def _product(first: Pattern, second: Pattern) -> Either:
    """first @ second, by matmul or bmm."""
    return Either(
        (
            Op("aten.matmul.default", self=first, other=second),
            Op("aten.bmm.default", self=first, mat2=second),
        )
    )


_PRODUCT = Cast(_product(Capture("query"), Capture("keys")))
_SCALED = Either(
    (
        Op(MUL, commutes=True, self=_PRODUCT, other=Number("factor")),
        Op(DIV, self=_PRODUCT, other=Number("divisor")),
        _PRODUCT,
    )
)
_TANH = Op(
    "aten.tanh.default",
    self=Cast(
        Either(
            (
                Op(DIV, self=_SCALED, other=Number("limit")),
                Op(MUL, commutes=True, self=_SCALED, other=Number("inverse")),
            )
        )
    ),
)
_CAPPED = Op(MUL, commutes=True, self=_TANH, other=Number("softcap"))
_LIMITED = Either((_CAPPED, _SCALED))
_MASK = Capture("mask")
_HIDDEN = Either(
    (
        Op("aten.where.ScalarOther", condition=_MASK, self=Cast(_LIMITED), other=-inf),
        Op(
            "aten.masked_fill.Scalar",
            self=Cast(_LIMITED),
            mask=Op("aten.logical_not.default aten.bitwise_not.default", self=_MASK),
            value=-inf,
        ),
    )
)
_SCORES = Either((add(Cast(_LIMITED), _MASK), _HIDDEN, _LIMITED))
_WEIGHTS = Cast(Op(SOFTMAX, self=Cast(_SCORES), dim=Capture("dim")))


def _rewrite(match: Match, out: Value) -> Replacement | None:
    query, keys, mask = match.value("query"), match.value("keys"), match.captures.get("mask")
    if match.captures["dim"] not in (-1, query.rank - 1):
        return None
    if mask is not None and not isinstance(mask, Value):
        return None
    divisor = match.captures.get("divisor", 1)
    if divisor == 0:
        return None
    softcap = match.captures.get("softcap", 0.0)
    limit = match.captures.get("limit", softcap)
    if match.captures.get("inverse", 0.0):
        limit = 1 / match.captures["inverse"]
    if softcap < 0 or abs(limit - softcap) > 1e-6 * softcap:
        return None
    scores = (*out.shape[:-1], keys.shape[-1])
    if mask is not None and len(mask.shape) > len(scores):
        return None
    return EAGER_ATTENTION, {
        "query": query,
        "keys": keys,
        "value": match.value("value"),
        "mask": mask,
        "scale": match.captures.get("factor", 1) / divisor,
        "softcap": softcap,
    }


FUSIONS = (
    Fusion(
        "attention",
        Op("aten.matmul.default", self=_WEIGHTS, other=Capture("value")),
        _rewrite,
    ),
    Fusion("attention_bmm", Op("aten.bmm.default", self=_WEIGHTS, mat2=Capture("value")), _rewrite),
)
