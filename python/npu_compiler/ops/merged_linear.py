"""The internal operator that linear layers of one input become; see passes/merge_linears.py.

Their weights lie one behind the other, so that one matrix product computes all of them; each result
is a slice of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_compiler.graph import Node, Value
from npu_compiler.ops.matmul import emit_gemm
from npu_compiler.ops.record import OpRecord
from npu_compiler.program.recipes import RecipeStep
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

MERGED_LINEAR = "npu.merged_linear"


def _joined(lowering: Lowering, node: Node, parts: list[Value], dtype: str) -> View:
    """Parameters behind each other along dimension 0, as one device weight."""
    steps = [
        RecipeStep("load" if at == 0 else "append", sources=(part.key,))
        for at, part in enumerate(parts)
    ]
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
    name = "+".join(str(part.key) for part in parts)
    cast = RecipeStep("cast", dtype=dtype)
    return lowering.make_parameter(name, [*steps, cast], dtype, shape, "weight", parts[0].dtype)


def _lower(lowering: Lowering, node: Node) -> None:
    x = lowering.read(node.tensor("input"))
    weights, biases = node.args["weights"], node.args["biases"]
    w = _joined(lowering, node, weights, x.dtype)
    bias = _joined(lowering, node, biases, "float32") if biases else None
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
