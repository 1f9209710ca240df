"""Norms of a widened tensor whose result is rounded back: the kernel computes in float32 anyway and
rounds once.
"""

from __future__ import annotations

from npu_compiler.fusions import Fusion, Replacement
from npu_compiler.fusions.layer_norm import LAYER_NORM
from npu_compiler.fusions.parts import uncast
from npu_compiler.fusions.pattern import CASTS, Match, Op, is_float_cast
from npu_compiler.fusions.rms_norm import RMS_NORM
from npu_compiler.graph import Value
from npu_compiler.ops.norm import SHIFTED_RMS_NORM

_NORM = Op(f"{RMS_NORM} {SHIFTED_RMS_NORM} {LAYER_NORM}")


def _rounded(match: Match, out: Value) -> Replacement | None:
    cast, norm = match.nodes
    x = norm.tensor("input")
    narrow = uncast(x, out.dtype)
    if not is_float_cast(cast) or norm.output.dtype != "float32" or narrow is x:
        return None
    return norm.op_type, {**norm.args, "input": narrow}


FUSIONS = (Fusion("rounded_norm", Op(" ".join(sorted(CASTS)), self=_NORM), _rounded),)
