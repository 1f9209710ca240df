"""RMSNorm written out: x * rsqrt(mean(x^2) + eps), then times a weight."""

from __future__ import annotations

from npu_compiler.fusions import Fusion, Replacement
from npu_compiler.fusions.parts import DIV, MUL, add, is_last, last_axis_mean, square, uncast
from npu_compiler.fusions.pattern import Capture, Cast, Match, Number, Op
from npu_compiler.graph import Value

RMS_NORM = "aten.rms_norm.default"

_X = Capture("x")
_SHIFTED = add(last_axis_mean(square(_X)), Number("eps"))
_NORMALIZED = (
    Op(MUL, commutes=True, self=_X, other=Op("aten.rsqrt.default", self=_SHIFTED)),
    Op(DIV, self=_X, other=Op("aten.sqrt.default", self=_SHIFTED)),
)
_WEIGHTED = Op(
    MUL,
    commutes=True,
    self=Capture("weight"),
    other=Cast(
        Op(RMS_NORM, input=_X, normalized_shape=Capture("shape"), weight=None, eps=Number("eps"))
    ),
)


def _rms_norm(match: Match, out: Value) -> Replacement | None:
    x = match.value("x")
    if not is_last(match, x) or x.shape != out.shape:
        return None
    args = {"normalized_shape": [x.shape[-1]], "eps": match.captures["eps"]}
    return RMS_NORM, {"input": uncast(x, out.dtype), **args}


def _weight(match: Match, out: Value) -> Replacement | None:
    x, weight, shape = match.value("x"), match.captures["weight"], match.captures["shape"]
    if not isinstance(weight, Value) or list(weight.shape) != shape or x.shape != out.shape:
        return None
    args = {"normalized_shape": shape, "weight": weight, "eps": match.captures["eps"]}
    return RMS_NORM, {"input": uncast(x, out.dtype), **args}


FUSIONS = (
    *(Fusion("rms_norm", pattern, _rms_norm) for pattern in _NORMALIZED),
    Fusion("rms_norm_weight", _WEIGHTED, _weight),
)
