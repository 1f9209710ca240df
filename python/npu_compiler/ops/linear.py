"""The internal operator that linear layers become whose weights are used where they are; see
passes/streamed_linears.py.

One dispatch of kernel ``linear`` computes the norm of the input, the product with one or more
weight matrices, and what follows: a gate, an addition, an activation, a clamp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from npu_compiler.elementwise import to_float32
from npu_compiler.graph import Node, Value
from npu_compiler.kernels.activation import ACTIVATIONS
from npu_compiler.kernels.linear import NORMS
from npu_compiler.ops.conv import epilogue_fields
from npu_compiler.ops.record import OpRecord
from npu_compiler.program.recipes import RecipeStep
from npu_compiler.view import View, merge_axes

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

LINEAR = "npu.linear"


def joined_parameter(
    lowering: Lowering,
    parts: Sequence[Value],
    dtype: str,
    groups: int = 1,
    quantize: str | None = None,
) -> View:
    """Parameters behind each other along dimension 0 as one device weight, with a new first
    dimension of ``groups``, among which they are divided. ``quantize``: the recipe step that makes
    integers, or their scales (without the last dimension), of the whole.
    """
    steps = [
        RecipeStep("load" if at == 0 else "append", sources=(part.key,))
        for at, part in enumerate(parts)
    ]
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
    if quantize is not None:
        steps.append(RecipeStep(quantize))
        shape = shape[:-1] if quantize == "quantize_scale" else shape
    name = "+".join(str(part.key) for part in parts)
    cast = RecipeStep("cast", dtype=dtype)
    whole = lowering.make_parameter(name, [*steps, cast], dtype, shape, "weight", parts[0].dtype)
    return whole.reshape((groups, shape[0] // groups, *shape[1:])) or whole


def _rows(lowering: Lowering, node: Node, view: View) -> View:
    """A tensor (..., k) as (m, k), copied where its strides cannot merge."""
    return _merged(view) or _merged(lowering.contiguous(view, node)) or view


def _merged(view: View) -> View | None:
    if len(view.shape) == 1:
        return view.insert(0)
    last = len(view.shape) - 1
    merged = merge_axes([view], [list(range(last)), [last]])
    return None if merged is None else merged[0]


def _weights(
    lowering: Lowering, weights: Sequence[Value], dtype: str, parts: int
) -> tuple[View, View | None]:
    """The matrices (p, n, k), and the scales (p, n) of integers."""
    integers = lowering.precision.weight_dtype
    if integers is None:
        return joined_parameter(lowering, weights, dtype, parts), None
    return (
        joined_parameter(lowering, weights, integers, parts, "quantize"),
        joined_parameter(lowering, weights, "float32", parts, "quantize_scale"),
    )


def _lower(lowering: Lowering, node: Node) -> None:
    args = node.args
    x = _rows(lowering, node, lowering.read(node.tensor("input")))
    parts = 2 if args["gate"] is not None else 1
    outputs = sum(weight.shape[0] for weight in args["weights"]) // parts
    w, w_scale = _weights(lowering, args["weights"], x.dtype, parts)
    bias = joined_parameter(lowering, args["biases"], "float32", parts) if args["biases"] else None
    weight = args["norm_weight"]
    steps = args["scale_steps"]
    scale = None if weight is None else lowering.parameter(weight, steps, "float32")
    residual = node.epilogue.residual
    added = None if residual is None else _rows(lowering, node, lowering.read(residual))

    if len(node.outputs) == 1:
        whole = lowering.define(node.output, image=False, strided=True)
    else:
        shape = (*node.output.shape[:-1], outputs)
        whole = lowering.temporary(f"{node.name}.merged", shape, x.dtype)
        last, at = len(shape) - 1, 0
        for output in node.outputs:
            size = output.shape[-1]
            lowering.alias(output, whole.slice(last, at, size))
            at += size
    target = whole
    y = _merged(whole)
    if y is None:
        target = lowering.temporary(f"{node.name}.product", whole.shape, whole.dtype)
        y = _rows(lowering, node, target)
    fields = epilogue_fields(node)
    if args["gate"] is not None:
        fields["activation"] = ACTIVATIONS[args["gate"]]
    norm = NORMS["none" if args["eps"] is None else "rms"]
    fields |= {"norm": norm, "eps": to_float32(args["eps"] or 0.0)}
    operands = {
        "x": x,
        "scale": scale,
        "w": w,
        "w_scale": w_scale,
        "bias": bias,
        "residual": added,
        "y": y,
    }
    lowering.dispatch("linear", node, fields, operands)
    if target is not whole:
        lowering.copy(target, whole, node, name=f"{node.name}.copy")
    elif whole.pad is not None:
        lowering.zero_padding(whole, node, f"{'+'.join(node.origins)}.padding")


RECORDS = (
    OpRecord(
        LINEAR,
        "input:T; norm_weight:T?; scale_steps=(); weights:T[]; biases:T[]; eps=None; gate=None",
        lower=_lower,
    ),
)
