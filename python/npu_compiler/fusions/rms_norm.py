"""RMSNorm written out: x * rsqrt(mean(x^2) + eps), then times a weight, or times 1 + weight."""

from __future__ import annotations

from npu_compiler.fusions import Fusion, Replacement
from npu_compiler.fusions.parts import DIV, MUL, add, is_last, last_axis_mean, square, uncast
from npu_compiler.fusions.pattern import Capture, Cast, Match, Number, Op
from npu_compiler.graph import Value
from npu_compiler.ops.norm import SHIFTED_RMS_NORM

RMS_NORM = "aten.rms_norm.default"

_X = Capture("x")
_SHIFTED = add(last_axis_mean(square(_X)), Number("eps"))
_NORMALIZED = (
    Op(MUL, commutes=True, self=_X, other=Op("aten.rsqrt.default", self=_SHIFTED)),
    Op(DIV, self=_X, other=Op("aten.sqrt.default", self=_SHIFTED)),
)
_PLAIN = Cast(
    Op(RMS_NORM, input=_X, normalized_shape=Capture("shape"), weight=None, eps=Number("eps"))
)
_WEIGHTED = Op(MUL, commutes=True, self=Capture("weight"), other=_PLAIN)
_SUM = add(Cast(Capture("weight")), Number("shift"))
_SHIFTED_WEIGHT = Op(MUL, commutes=True, self=_SUM, other=_PLAIN)


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


def _shifted_weight(match: Match, out: Value) -> Replacement | None:
    weight = match.value("weight")
    # The sum that is made on loading is float32.
    exact = all(n.output.dtype == "float32" for n in match.nodes if n.op_type in _SUM.op_types)
    if weight.kind != "weight" or not exact:
        return None
    found = _weight(match, out)
    if found is None:
        return None
    return SHIFTED_RMS_NORM, {**found[1], "shift": match.captures["shift"]}


FUSIONS = (
    *(Fusion("rms_norm", pattern, _rms_norm) for pattern in _NORMALIZED),
    Fusion("rms_norm_shifted_weight", _SHIFTED_WEIGHT, _shifted_weight),
    Fusion("rms_norm_weight", _WEIGHTED, _weight),
)
