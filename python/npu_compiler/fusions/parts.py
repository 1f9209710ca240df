"""Pieces that several patterns share."""

from __future__ import annotations

from npu_compiler.dtypes import DTYPES
from npu_compiler.fusions.pattern import Capture, Either, Match, Op, Pattern, is_float_cast
from npu_compiler.graph import Value

ADD = "aten.add.Tensor aten.add.Scalar"
SUB = "aten.sub.Tensor"
MUL = "aten.mul.Tensor aten.mul.Scalar"
DIV = "aten.div.Tensor aten.div.Scalar aten.true_divide.Tensor"
POW = "aten.pow.Tensor_Scalar"
SOFTMAX = "aten.softmax.int aten._softmax.default"

RESHAPE = "aten.reshape.default aten.view.default aten._unsafe_view.default"
ATTENTION = "aten.scaled_dot_product_attention.default"


def add(one: Pattern, other: Pattern) -> Op:
    """one + other, in either order, unscaled."""
    return Op(ADD, commutes=True, self=one, other=other, alpha=1)


def square(x: Pattern) -> Pattern:
    """x^2, as pow, as a product or as square."""
    return Either(
        (
            Op(POW, self=x, exponent=2),
            Op(MUL, self=x, other=x),
            Op("aten.square.default", self=x),
        )
    )


def last_axis_mean(x: Pattern) -> Op:
    """mean(x, dim, keepdim=True); ``dim`` is captured: see ``is_last``."""
    return Op("aten.mean.dim", self=x, dim=Capture("dim"), keepdim=True)


def is_last(match: Match, x: Value) -> bool:
    """Whether the captured ``dim`` is the last dimension of ``x``, and that alone."""
    return match.captures["dim"] in ([-1], [x.rank - 1], -1, x.rank - 1)


def uncast(x: Value, dtype: str) -> Value:
    """What ``x`` was cast from, where that has ``dtype`` and was widened: the same values."""
    node = x.producer
    if node is None or not is_float_cast(node):
        return x
    source = node.tensor("self")
    exact = DTYPES[source.dtype].size < DTYPES[x.dtype].size
    return source if exact and source.dtype == dtype else x
