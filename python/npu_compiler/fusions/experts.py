"""Mixtures of experts that gather the weights of each token's experts and multiply: the product
uses the weights where they are, and takes in the repetition of tokens before it and the gate
behind it.
"""

from __future__ import annotations

from npu_compiler.fusions import Fusion, Replacement
from npu_compiler.fusions.parts import MUL
from npu_compiler.fusions.pattern import Capture, Either, Equal, Items, Match, Number, Op
from npu_compiler.graph import Value
from npu_compiler.ops import find_op
from npu_compiler.ops.activation import RECORDS as ACTIVATIONS
from npu_compiler.ops.expert_linear import EXPERT_LINEAR

_BMM = "aten.bmm.default"
_INDEX = "aten.index.Tensor"
_WEIGHTS = Op(_INDEX, self=Capture("weight"), indices=Items((Capture("expert"),)))
_REPEATED = Op(
    "aten.repeat_interleave.self_int", self=Capture("x"), repeats=Number("choices"), dim=0
)
_X = Either((_REPEATED, Capture("x")))


def _axis(dim: int) -> Either:
    """An attribute that names dimension ``dim`` of three, from either end."""
    return Either((Equal(dim), Equal(dim - 3)))


def _vectors(axis: int) -> Op:
    """x as matrices that have size one along ``axis``."""
    return Op("aten.unsqueeze.default", self=_X, dim=_axis(axis))


def _layer(product: Op, axis: int) -> Op:
    """A batch of products without that axis."""
    dim = Either((_axis(axis), Items((_axis(axis),))))
    return Op("aten.squeeze.dim aten.squeeze.dims", self=product, dim=dim)


def _in_place(match: Match, out: Value) -> Replacement:
    (product,) = (node for node in match.nodes if node.op_type == _BMM)
    weights = product.tensor("self").producer
    return EXPERT_LINEAR, {
        "input": match.value("x"),
        "weight": match.value("weight"),
        "expert": match.value("expert"),
        "choices": match.captures.get("choices", 1),
        "transposed": weights is None or weights.op_type != _INDEX,
    }


_BOTH = Op(EXPERT_LINEAR, gate=None)
_CHUNK = "aten.chunk.default"


def _half(index: int) -> Op:
    """One of two halves of the columns."""
    return Op(_CHUNK, index, self=_BOTH, chunks=2, dim=Either((Equal(-1), Equal(1))))


_GATE = Op(" ".join(r.op_type for r in ACTIVATIONS if r.activation is not None), self=_half(0))


def _gated(match: Match, out: Value) -> Replacement | None:
    layer, chunk = (
        next(node for node in match.nodes if node.op_type == op_type)
        for op_type in (EXPERT_LINEAR, _CHUNK)
    )
    gate = next(node for node in match.nodes if node.op_type in _GATE.op_types)
    record = find_op(gate.op_type)
    if record is None or record.activation is None:
        return None
    if len({half.shape for half in chunk.outputs}) != 1 or gate.output.dtype != out.dtype:
        return None
    return EXPERT_LINEAR, {**layer.args, "gate": record.activation(gate.args)}


FUSIONS = (
    Fusion("experts", _layer(Op(_BMM, self=_WEIGHTS, mat2=_vectors(2)), 2), _in_place),
    Fusion("transposed_experts", _layer(Op(_BMM, self=_vectors(1), mat2=_WEIGHTS), 1), _in_place),
    Fusion("gated_experts", Op(MUL, commutes=True, self=_GATE, other=_half(1)), _gated),
)
