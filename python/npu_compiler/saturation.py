"""Finite numbers beyond the range of the compute dtype.

A float32 model masks with ``torch.finfo(torch.float32).min``. In float16 that number would become
-inf, and a row that is masked entirely NaN, where PyTorch computes finite values. So what a model
fills with, compares with or holds as a constant becomes the compute dtype's largest number where it
is finite in the IR. What the model computes overflows as ever.
"""

from __future__ import annotations

import math

import numpy as np

from npu_compiler.arrays import Array
from npu_compiler.dtypes import FLOATING, LARGEST
from npu_compiler.graph import IRGraph, Node
from npu_compiler.passes.constants import is_uniform
from npu_compiler.precision import Precision

# Operators that put, compare with or bound by a number, and its arguments.
_NUMBERS: dict[str, tuple[str, ...]] = {
    "aten.masked_fill.Scalar": ("value",),
    "aten.fill.Scalar": ("value",),
    "aten.where.ScalarOther": ("other",),
    "aten.where.ScalarSelf": ("self",),
    "aten.where.Scalar": ("self", "other"),
    "aten.clamp.default": ("min", "max"),
    "aten.clamp_min.default": ("min",),
    "aten.clamp_max.default": ("max",),
    "aten.constant_pad_nd.default": ("value",),
    **{f"aten.{name}.Scalar": ("other",) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
}


def saturate(graph: IRGraph, precision: Precision) -> None:
    """Bring the numbers and constants of ``graph`` into the range of the compute dtype."""
    if precision.model_dtype == precision.compute_dtype:
        return
    for node in graph.nodes:
        for name in _NUMBERS.get(node.op_type, ()):
            if _computes_in(node, precision.model_dtype):
                node.args[name] = _number(node.args.get(name), precision.compute_dtype)
    for value in graph.weights.values():
        if value.kind == "constant" and value.dtype == precision.model_dtype and value.key:
            array = graph.constants[value.key]
            graph.constants[value.key] = _array(array, precision.compute_dtype)


def _computes_in(node: Node, dtype: str) -> bool:
    floats = {v.dtype for v in (*node.inputs(), *node.outputs) if v.dtype in FLOATING}
    return floats == {dtype}


def _number(value: object, dtype: str) -> object:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        return value
    return float(_array(np.asarray(float(value)), dtype)[()])


def _array(array: Array, dtype: str) -> Array:
    """``array`` with what is finite in it, but not in ``dtype``, replaced by the dtype's largest
    number; the array itself where that is nothing.
    """
    if is_uniform(array):
        item = array.reshape(-1)[:1].reshape(())
        found = _array(item, dtype)
        return array if found is item else np.broadcast_to(found, array.shape)
    largest = LARGEST[dtype]
    lost = np.isfinite(array) & (np.abs(array) > largest)
    if not lost.any():
        return array
    return np.where(lost, np.copysign(largest, array), array).astype(array.dtype)
