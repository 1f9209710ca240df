"""BatchNorm at inference: mostly folded into the layer before it (passes/fusion.py); alone it is a
scale and a shift.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from npu_compiler.elementwise import Builder
from npu_compiler.elementwise_dispatch import emit_program
from npu_compiler.graph import BatchNorm, Node, Value
from npu_compiler.ops.arguments import number, require, same_shape
from npu_compiler.ops.conv import fold_step
from npu_compiler.ops.record import OpRecord
from npu_compiler.program.recipes import RecipeStep
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


def batch_norm_of(node: Node) -> BatchNorm:
    """The parameters of a BatchNorm node."""
    args = node.args
    return BatchNorm(
        args["weight"], args["bias"], args["running_mean"], args["running_var"], float(args["eps"])
    )


def _check_attrs(args: Mapping[str, Any]) -> str | None:
    require(
        not args.get("training", False),
        "BatchNorm in training mode is not supported; call model.eval() before extracting the IR",
    )
    eps = number(args["eps"], "eps")
    require(0 <= eps < inf, f"eps must be finite and not negative, got {eps}")
    return None


def _check(node: Node) -> str | None:
    x = node.tensor("input")
    require(x.rank >= 2, f"the input must have channels, got {list(x.shape)}")
    same_shape(node, x.shape)
    require(x.dtype == node.output.dtype, f"the result must be {x.dtype}")
    for name in ("weight", "bias", "running_mean", "running_var"):
        value = node.args[name]
        if value is None:
            require(not name.startswith("running"), f"{name} is missing")
            continue
        require(
            isinstance(value, Value) and value.shape == (x.shape[1],),
            f"{name} must have {x.shape[1]} values, got {value!r}",
        )
    return None


def _per_channel(view: View, rank: int) -> View:
    for _ in range(rank - 2):
        view = view.insert(1)
    return view


def _static_scale(lowering: Lowering, node: Node, bn: BatchNorm, out: View) -> tuple[View, View]:
    """Scale and shift as float32 weights, padded with zeros where ``out`` is padded."""
    channels = node.output.shape[1]
    padded = channels if out.pad is None or out.pad[0] != 1 else out.pad[1]
    base = str(bn.mean.key).removesuffix(".running_mean")
    pad = [RecipeStep("pad", args=(padded,))] if padded != channels else []
    no_gain = BatchNorm(None, None, bn.mean, bn.var, bn.eps)
    start = (
        RecipeStep("full", args=(channels,), value=1.0)
        if bn.gamma is None
        else RecipeStep("load", sources=(bn.gamma.key,))
    )
    scale = [start, fold_step("fold_bn_weight", no_gain), *pad]
    shift = [RecipeStep("zeros", args=(channels,)), fold_step("fold_bn_bias", bn), *pad]
    views = []
    for name, steps in (("scale", scale), ("shift", shift)):
        whole = lowering.make_parameter(
            f"{base}.{name}", steps, "float32", (padded,), bn.mean.kind, bn.mean.dtype
        )
        view = View(whole.storage, (channels,), (1,), 0, (0, padded) if pad else None)
        views.append(_per_channel(view, node.output.rank))
    return views[0], views[1]


def _lower(lowering: Lowering, node: Node) -> None:
    bn = batch_norm_of(node)
    x = node.tensor("input")
    out = lowering.define(node.output, image=True, strided=True)
    b = Builder()
    value = b.load(x)
    if all(v.is_parameter and v.kind == bn.mean.kind for v in bn.parameters):
        scale, shift = _static_scale(lowering, node, bn, out)
        result = b("add_f", b("mul_f", value, b.load(scale)), b.load(shift))
    else:

        def channel(tensor: Value) -> View:
            return lowering.channel_parameter(tensor, out)

        spread = b("rsqrt_f", b("add_f", b.load(channel(bn.var)), bn.eps))
        result = b("mul_f", b("sub_f", value, b.load(channel(bn.mean))), spread)
        if bn.gamma is not None:
            result = b("mul_f", result, b.load(channel(bn.gamma)))
        if bn.beta is not None:
            result = b("add_f", result, b.load(channel(bn.beta)))
    emit_program(lowering, out, b, result, node)


_TENSORS = "input:T, weight:T?, bias:T?, running_mean:T?, running_var:T?"


def _record(op_type: str, signature: str) -> OpRecord:
    return OpRecord(
        op_type, signature, lower=_lower, check_attrs=_check_attrs, check=_check, single_output=True
    )


RECORDS = (
    _record("aten.batch_norm.default", f"{_TENSORS}, training, momentum, eps, cudnn_enabled"),
    _record("aten._native_batch_norm_legit_no_training.default", f"{_TENSORS}, momentum, eps"),
    _record("aten.native_batch_norm.default", f"{_TENSORS}, training, momentum, eps"),
)
