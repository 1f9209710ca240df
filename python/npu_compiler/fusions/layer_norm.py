"""LayerNorm written out: (x - mean(x)) / sqrt(var(x) + eps), times a weight, plus a bias."""

from __future__ import annotations

from npu_compiler.fusions import Fusion, Replacement
from npu_compiler.fusions.parts import (
    DIV,
    MUL,
    SUB,
    add,
    is_last,
    last_axis_mean,
    square,
    uncast,
)
from npu_compiler.fusions.pattern import Capture, Cast, Either, Match, Number, Op
from npu_compiler.graph import Value

LAYER_NORM = "aten.layer_norm.default"

_X = Capture("x")
_CENTRED = Op(SUB, self=_X, other=last_axis_mean(_X), alpha=1)
_VARIANCE = Either(
    (
        last_axis_mean(square(_CENTRED)),
        Op("aten.var.correction", self=_X, dim=Capture("dim"), keepdim=True, correction=0),
        Op("aten.var.dim", self=_X, dim=Capture("dim"), keepdim=True, unbiased=False),
    )
)
_SHIFTED = add(_VARIANCE, Number("eps"))
_NORMALIZED = (
    Op(MUL, commutes=True, self=_CENTRED, other=Op("aten.rsqrt.default", self=_SHIFTED)),
    Op(DIV, self=_CENTRED, other=Op("aten.sqrt.default", self=_SHIFTED)),
)


def _plain(weight: object, bias: object) -> Op:
    return Op(
        LAYER_NORM,
        input=_X,
        normalized_shape=Capture("shape"),
        weight=weight,
        bias=bias,
        eps=Number("eps"),
    )


_WEIGHTED = Op(MUL, commutes=True, self=Capture("weight"), other=Cast(_plain(None, None)))
_BIASED = add(Capture("bias"), _plain(Capture("weight"), None))


def _layer_norm(match: Match, out: Value) -> Replacement | None:
    x = match.value("x")
    if not is_last(match, x) or x.shape != out.shape:
        return None
    args = {"normalized_shape": [x.shape[-1]], "eps": match.captures["eps"]}
    return LAYER_NORM, {"input": uncast(x, out.dtype), **args}


def _affine(match: Match, out: Value) -> Replacement | None:
    x, shape = match.value("x"), match.captures["shape"]
    weight, bias = match.captures.get("weight"), match.captures.get("bias")
    for part in (weight, bias):
        if part is not None and (not isinstance(part, Value) or list(part.shape) != shape):
            return None
    if x.shape != out.shape:
        return None
    args = {"normalized_shape": shape, "weight": weight, "bias": bias}
    return LAYER_NORM, {"input": uncast(x, out.dtype), **args, "eps": match.captures["eps"]}


FUSIONS = (
    *(Fusion("layer_norm", pattern, _layer_norm) for pattern in _NORMALIZED),
    Fusion("layer_norm_weight", _WEIGHTED, _affine),
    Fusion("layer_norm_bias", _BIASED, _affine),
)
