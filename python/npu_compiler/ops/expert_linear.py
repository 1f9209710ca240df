"""The internal operator of a mixture of experts: rows times the weights of an expert of their own,
which are used where they are; see fusions/experts.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_compiler.graph import Node
from npu_compiler.kernels.activation import ACTIVATIONS
from npu_compiler.ops.arguments import integer, require, same_shape
from npu_compiler.ops.index_checks import INDEX_DTYPES, check_index, same_dtypes
from npu_compiler.ops.record import FLOATS, OpRecord
from npu_compiler.program.recipes import RecipeStep
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

EXPERT_LINEAR = "npu.expert_linear"


def _parts(node: Node) -> int:
    return 1 if node.args["gate"] is None else 2


def _check(node: Node) -> str | None:
    """input (tokens, k); expert (tokens * choices,), token by token; weight (experts, n, k), or
    (experts, k, n) where transposed, with n twice the result's columns where there is a gate.
    """
    x, weight, expert = node.tensor("input"), node.tensor("weight"), node.tensor("expert")
    check_index(expert, "expert")
    same_dtypes(x, weight, node.output)
    require(weight.is_parameter and weight.rank == 3, f"{weight!r} holds no weights of experts")
    n, k = weight.shape[:0:-1] if node.args["transposed"] else weight.shape[1:]
    choices = integer(node.args["choices"], "choices")
    fits = x.rank == 2 and x.shape[1] == k and expert.shape == (x.shape[0] * choices,)
    require(fits and n % _parts(node) == 0, f"{x!r}, {weight!r} and {expert!r} do not fit together")
    same_shape(node, (*expert.shape, n // _parts(node)))
    return None


def _weights(lowering: Lowering, node: Node, dtype: str) -> tuple[View, View | None]:
    """The matrices (experts, parts, n, k), and the scales (experts, parts, n) of integers."""
    weight, parts = node.tensor("weight"), _parts(node)
    steps: tuple[RecipeStep, ...] = ()
    experts, n, k = weight.shape
    if node.args["transposed"]:
        n, k = k, n
        steps = (RecipeStep("permute", args=(0, 2, 1)),)

    def stored(dtype: str, *rest: int, quantize: str | None = None) -> View:
        more = () if quantize is None else (RecipeStep(quantize),)
        whole = lowering.parameter(weight, (*steps, *more), dtype, (experts, n, *rest))
        return _reshaped(whole, (experts, parts, n // parts, *rest))

    integers = lowering.precision.weight_dtype
    if integers is None or weight.kind != "weight":
        return stored(dtype, k), None
    return stored(integers, k, quantize="quantize"), stored("float32", quantize="quantize_scale")


def _reshaped(view: View, shape: tuple[int, ...]) -> View:
    found = view.reshape(shape)
    if found is None:
        raise ValueError(f"a contiguous view of {list(view.shape)} has no shape {list(shape)}")
    return found


def _lower(lowering: Lowering, node: Node) -> None:
    args = node.args
    choices = args["choices"]
    x = lowering.read(node.tensor("input"))
    tokens, k = x.shape
    w, w_scale = _weights(lowering, node, x.dtype)
    expert = lowering.contiguous(lowering.read(node.tensor("expert")), node)
    y = lowering.define(node.output, image=False)
    fields = {"wrap": 1, "activation": ACTIVATIONS[args["gate"] or "none"]}
    operands = {
        "x": x.insert(1).expand((tokens, choices, k)),
        "expert": _reshaped(expert, (tokens, choices)),
        "w": w,
        "w_scale": w_scale,
        "y": _reshaped(y, (tokens, choices, y.shape[1])),
    }
    lowering.dispatch("expert_linear", node, fields, operands)


RECORDS = (
    OpRecord(
        EXPERT_LINEAR,
        "input:T, weight:T, expert:T, choices=1, transposed=False, gate=None",
        lower=_lower,
        check=_check,
        dtypes=FLOATS | frozenset(INDEX_DTYPES),
    ),
)
