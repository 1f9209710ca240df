"""Rotary embedding written out (Su et al., 2021): x * cos + rotate_half(x) * sin, where
rotate_half(x) is the negated second half of the last dimension before the first.
"""

from __future__ import annotations

from npu_compiler.fusions import Fusion, Replacement
from npu_compiler.fusions.parts import MUL, add
from npu_compiler.fusions.pattern import CASTS, Capture, Items, Match, Op
from npu_compiler.graph import Value
from npu_compiler.ops.rotary import ROTARY

_SLICE = "aten.slice.Tensor"
_X = Capture("x")
_SECOND = Op(
    _SLICE, self=_X, dim=Capture("dim2"), start=Capture("start2"), end=Capture("end2"), step=1
)
_FIRST = Op(
    _SLICE, self=_X, dim=Capture("dim1"), start=Capture("start1"), end=Capture("end1"), step=1
)
_ROTATED = Op(
    "aten.cat.default",
    tensors=Items((Op("aten.neg.default", self=_SECOND), _FIRST)),
    dim=Capture("dim"),
)
_PATTERN = add(
    Op(MUL, commutes=True, self=_X, other=Capture("cos")),
    Op(MUL, commutes=True, self=_ROTATED, other=Capture("sin")),
)


def _rewrite(match: Match, out: Value) -> Replacement | None:
    x, found = match.value("x"), match.captures
    if not all(isinstance(found[name], Value) for name in ("cos", "sin")) or x.shape != out.shape:
        return None
    last, size = x.rank - 1, x.shape[-1] if x.rank else 0
    half = size // 2
    is_last = all(found[name] in (-1, last) for name in ("dim", "dim1", "dim2"))
    first = found["start1"] in (None, 0) and found["end1"] in (half, half - size)
    second = found["start2"] in (half, half - size) and (
        found["end2"] is None or found["end2"] >= size
    )
    if not (is_last and first and second and x.dtype == out.dtype):
        return None
    return ROTARY, {"x": x, "cos": found["cos"], "sin": found["sin"]}


FUSIONS = (
    Fusion("rotary", _PATTERN, _rewrite),
    # Half-precision heads turned by float32 tables, and rounded in the end.
    Fusion("rotary_rounded", Op(" ".join(sorted(CASTS)), self=_PATTERN), _rewrite),
)
