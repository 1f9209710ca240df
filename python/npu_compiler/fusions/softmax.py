"""Softmax of scaled and masked scores: scores * scale + mask, or hidden where a bool mask says so.

Late, since attention written out contains the same expression and becomes more than a softmax.
"""

from __future__ import annotations

from math import inf

from npu_compiler.fusions import Fusion, Replacement
from npu_compiler.fusions.parts import DIV, MUL, SOFTMAX, add
from npu_compiler.fusions.pattern import Capture, Either, Match, Number, Op
from npu_compiler.graph import Value
from npu_compiler.ops.record import FLOATS
from npu_compiler.ops.softmax import MASKED_SOFTMAX

_X = Capture("x")
_SCALED = (
    Op(MUL, commutes=True, self=_X, other=Number("factor")),
    Op(DIV, self=_X, other=Number("divisor")),
)
_ANY_SCALE = Either((*_SCALED, _X))
_KEPT = Capture("kept")
_SCORES = Either(
    (
        add(_ANY_SCALE, Capture("added")),
        Op("aten.where.ScalarOther", condition=_KEPT, self=_ANY_SCALE, other=-inf),
        Op(
            "aten.masked_fill.Scalar",
            self=_ANY_SCALE,
            mask=Op("aten.logical_not.default aten.bitwise_not.default", self=_KEPT),
            value=-inf,
        ),
        *_SCALED,
    )
)


def _rewrite(match: Match, out: Value) -> Replacement | None:
    captures = match.captures
    x = captures["x"]
    # Of a sum with a number, either side may be taken for the scores.
    if not isinstance(x, Value):
        return None
    added, kept = captures.get("added"), captures.get("kept")
    divisor = captures.get("divisor", 1)
    if x.shape != out.shape or x.dtype not in FLOATS or divisor == 0:
        return None
    if added is not None and not (isinstance(added, Value) and added.dtype in FLOATS):
        return None
    if kept is not None and not (isinstance(kept, Value) and kept.dtype == "bool"):
        return None
    return MASKED_SOFTMAX, {
        "self": x,
        "mask": added if kept is None else kept,
        "dim": captures["dim"],
        "scale": captures.get("factor", 1) / divisor,
    }


FUSIONS = (
    Fusion(
        "masked_softmax",
        Op(SOFTMAX, self=_SCORES, dim=Capture("dim")),
        _rewrite,
        late=True,
    ),
)
