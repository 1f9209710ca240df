"""Precision: which storage dtype each IR dtype gets in a program."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from npu_compiler.dtypes import COMPUTE, DTYPES
from npu_compiler.errors import CompileOptionError
from npu_compiler.graph import IRGraph
from npu_compiler.target import TargetConfig


@dataclass(frozen=True, slots=True)
class Precision:
    """Tensors of ``model_dtype`` are stored as ``compute_dtype``; every other dtype is stored as it
    is. ``weight_dtype`` "int8": linear layers' weights are stored as integers and scales.
    """

    model_dtype: str
    compute_dtype: str
    weight_dtype: str | None = None

    def storage(self, ir_dtype: str) -> str:
        """The storage dtype of an IR dtype."""
        return self.compute_dtype if ir_dtype == self.model_dtype else ir_dtype


def choose_precision(
    graph: IRGraph,
    target: TargetConfig,
    compute_dtype: str | None,
    model_dtype: str | None = None,
    weight_dtype: str | None = None,
) -> Precision:
    """The dtype that holds most of the weights (without weights: of the inputs) decides: float32
    models compute in float16, float16 and bfloat16 models in their own; ``compute_dtype`` overrides
    the latter choice, ``model_dtype`` the former.
    """
    for name, dtype in (("compute_dtype", compute_dtype), ("model_dtype", model_dtype)):
        if dtype is not None and dtype not in COMPUTE:
            raise CompileOptionError(f"{name} must be one of {', '.join(COMPUTE)}, got {dtype!r}")
    if weight_dtype not in (None, "int8"):
        raise CompileOptionError(f"weight_dtype must be int8 or None, got {weight_dtype!r}")
    elements: Counter[str] = Counter()
    for value in {v.key: v for v in graph.weights.values()}.values():
        elements[value.dtype] += value.numel
    floats = {d: n for d, n in elements.items() if d in COMPUTE and n}
    if not floats:
        floats = {v.dtype: v.numel for v in graph.inputs if v.dtype in COMPUTE}
    most = max(floats, key=lambda d: (floats[d], -DTYPES[d].id)) if floats else "float32"
    model = model_dtype or most
    compute = compute_dtype or ("float16" if model == "float32" else model)
    if compute not in target.compute_dtypes:
        raise CompileOptionError(
            f"the target computes in {', '.join(target.compute_dtypes)}, not in {compute}; "
            "choose another compute_dtype"
        )
    return Precision(model, compute, weight_dtype)
