"""The internal operator that linear layers of one input become; see passes/merge_linears.py.

Their weights lie one behind the other, so that one matrix product computes all of them; each result
is a slice of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_compiler.graph import Node
from npu_compiler.ops.linear import joined_parameter
from npu_compiler.ops.matmul import emit_gemm
from npu_compiler.ops.record import OpRecord

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

MERGED_LINEAR = "npu.merged_linear"


def _lower(lowering: Lowering, node: Node) -> None:
    x = lowering.read(node.tensor("input"))
    weights, biases = node.args["weights"], node.args["biases"]
    w = joined_parameter(lowering, weights, x.dtype).drop(0)
    bias = joined_parameter(lowering, biases, "float32").drop(0) if biases else None
    whole = lowering.temporary(f"{node.name}.merged", (*x.shape[:-1], w.shape[0]), x.dtype)
    last, at = len(whole.shape) - 1, 0
    for output in node.outputs:
        size = output.shape[-1]
        lowering.alias(output, whole.slice(last, at, size))
        at += size
    if last == 0:
        x, whole = x.insert(0), whole.insert(0)
    emit_gemm(lowering, node, x, w, whole, bias)


RECORDS = (OpRecord(MERGED_LINEAR, "input:T; weights:T[]; biases:T[]", lower=_lower),)
