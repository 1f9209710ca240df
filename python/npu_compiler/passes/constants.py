"""Nodes whose result no input decides (arange, full, zeros_like, ...) become constants; constants
that are full of one value are kept as that one value.
"""

from __future__ import annotations

import numpy as np

from npu_compiler.arrays import Array
from npu_compiler.graph import IRGraph, Value
from npu_compiler.ops import find_op

# Smaller constants are not worth a look.
_WORTH_BYTES = 4096


def is_uniform(array: Array) -> bool:
    """Whether the array is one value, shown many times by strides of 0."""
    return array.size > 1 and not any(
        s for n, s in zip(array.shape, array.strides, strict=True) if n > 1
    )


def fold_constants(graph: IRGraph) -> None:
    """Replace what is known now by constants; see the module's text."""
    for key, array in graph.constants.items():
        if array.nbytes > _WORTH_BYTES and not is_uniform(array):
            graph.constants[key] = _uniform(array)
    mapping: dict[Value, Value] = {}
    kept = []
    for node in graph.nodes:
        record = find_op(node.op_type)
        if record is None or record.value is None or record.reason(node) is not None:
            kept.append(node)
            continue
        key = node.name
        while key in graph.constants or key in graph.weights:
            key += "_"
        output = node.output
        graph.constants[key] = record.value(node)
        graph.weights[key] = Value(key, output.shape, output.dtype, "constant", key)
        mapping[output] = graph.weights[key]
    graph.nodes = kept
    graph.replace(mapping)


def _uniform(array: Array) -> Array:
    """One value shown many times, if all have the same bits; else the array itself."""
    flat = np.ascontiguousarray(array).reshape(-1)
    item = flat[:1].tobytes()
    head = flat[: _WORTH_BYTES // flat.itemsize].tobytes()
    if head != item * (len(head) // len(item)) or flat.tobytes() != item * flat.size:
        return array
    return np.broadcast_to(flat[0], array.shape)
