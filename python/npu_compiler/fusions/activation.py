"""Activations written out: GELU in both forms, and SiLU. As one operator they can be a matrix
kernel's epilogue.
"""

from __future__ import annotations

from math import pi, sqrt

from npu_compiler.fusions import Fusion, Replacement, Rewrite
from npu_compiler.fusions.parts import DIV, MUL, POW, add
from npu_compiler.fusions.pattern import Capture, Either, Equal, Match, Op, Pattern
from npu_compiler.graph import Value

# Constants are written to a few digits in models.
_DIGITS = 1e-6
_X = Capture("x")


def _times(one: Pattern, other: object) -> Op:
    return Op(MUL, commutes=True, self=one, other=other)


_HALF = Either((_times(_X, 0.5), Op(DIV, self=_X, other=2)))
_ERF = Op(
    "aten.erf.default",
    self=Either(
        (
            Op(DIV, self=_X, other=Equal(sqrt(2), _DIGITS)),
            _times(_X, Equal(sqrt(0.5), _DIGITS)),
        )
    ),
)
_CUBE = Either(
    (
        Op(POW, self=_X, exponent=3),
        _times(_times(_X, _X), _X),
        _times(Op(POW, self=_X, exponent=2), _X),
    )
)
_TANH = Op(
    "aten.tanh.default",
    self=_times(add(_X, _times(_CUBE, Equal(0.044715, _DIGITS))), Equal(sqrt(2 / pi), _DIGITS)),
)


def _gelu(gate: Pattern) -> tuple[Op, ...]:
    """0.5 x (1 + gate), multiplied in any order."""
    grown = add(gate, Equal(1))
    return (_times(_HALF, grown), _times(_times(_X, grown), 0.5))


def _as(op_type: str, **args: object) -> Rewrite:
    def rewrite(match: Match, out: Value) -> Replacement | None:
        x = match.value("x")
        return (op_type, {"self": x, **args}) if x.dtype == out.dtype else None

    return rewrite


FUSIONS = (
    *(Fusion("gelu", p, _as("aten.gelu.default", approximate="none")) for p in _gelu(_ERF)),
    *(Fusion("gelu_tanh", p, _as("aten.gelu.default", approximate="tanh")) for p in _gelu(_TANH)),
    Fusion("silu", _times(_X, Op("aten.sigmoid.default", self=_X)), _as("aten.silu.default")),
)
