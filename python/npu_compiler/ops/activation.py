"""Activations: elementwise formulas as PyTorch computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from npu_compiler.elementwise import Builder, Register
from npu_compiler.elementwise_dispatch import emit_program
from npu_compiler.graph import Node
from npu_compiler.ops.arguments import axis, require, same_shape
from npu_compiler.ops.pointwise import NUMBERS, Args, Formula, pointwise, unary
from npu_compiler.ops.record import FLOATS, OpRecord
from npu_compiler.ops.selection import clamped, scalar_bounds

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def _hardtanh(b: Builder, a: Args) -> Register:
    result: Register = clamped(b, a["self"], a["min_val"], a["max_val"])
    return result


def _relu(b: Builder, a: Args) -> Register:
    return b("max", a["self"], 0)


def _relu6(b: Builder, a: Args) -> Register:
    result: Register = clamped(b, a["self"], 0, 6)
    return result


def _leaky_relu(b: Builder, a: Args) -> Register:
    x = a["self"]
    return b("select_f", b("lt_f", 0.0, x), x, b("mul_f", x, a["negative_slope"]))


def _gelu(b: Builder, a: Args) -> Register:
    return b("gelu_tanh_f" if a["approximate"] == "tanh" else "gelu_f", a["self"])


def _hardsigmoid(b: Builder, a: Args) -> Register:
    return b("div_f", clamped(b, b("add_f", a["self"], 3.0), 0.0, 6.0), 6.0)


def _hardswish(b: Builder, a: Args) -> Register:
    x = a["self"]
    return b("div_f", b("mul_f", x, clamped(b, b("add_f", x, 3.0), 0.0, 6.0)), 6.0)


def _elu(b: Builder, a: Args) -> Register:
    x, scale = a["self"], a["scale"]
    grown = b("expm1_f", b("mul_f", x, a["input_scale"]))
    below = b("mul_f", grown, a["alpha"] * scale)
    return b("select_f", b("lt_f", 0.0, x), b("mul_f", x, scale), below)


def _softplus_of(b: Builder, x: Any, beta: float, threshold: float) -> Register:
    scaled = b("mul_f", x, beta)
    soft = b("div_f", b("log1p_f", b("exp_f", scaled)), beta)
    return b("select_f", b("lt_f", threshold, scaled), x, soft)


def _softplus(b: Builder, a: Args) -> Register:
    return _softplus_of(b, a["self"], a["beta"], a["threshold"])


def _mish(b: Builder, a: Args) -> Register:
    x = a["self"]
    return b("mul_f", x, b("tanh_f", _softplus_of(b, x, 1.0, 20.0)))


def _celu(b: Builder, a: Args) -> Register:
    x, alpha = a["self"], a["alpha"]
    below = b("mul_f", b("expm1_f", b("div_f", x, alpha)), alpha)
    return b("select_f", b("lt_f", 0.0, x), x, below)


def _selu(b: Builder, a: Args) -> Register:
    return _elu(b, {**a, "alpha": _SELU_ALPHA, "scale": _SELU_SCALE, "input_scale": 1.0})


def _hardshrink(b: Builder, a: Args) -> Register:
    x, bound = a["self"], a["lambd"]
    within = b("mul_i", b("le_f", -bound, x), b("le_f", x, bound))
    return b("select_f", within, 0.0, x)


def _softshrink(b: Builder, a: Args) -> Register:
    """``x`` less its part within the bounds; NaN stays."""
    x, bound = a["self"], a["lambd"]
    below = b("select_f", b("lt_f", x, -bound), b("add_f", x, bound), b("mul_f", x, 0.0))
    return b("select_f", b("lt_f", bound, x), b("sub_f", x, bound), below)


def _log_sigmoid(b: Builder, a: Args) -> Register:
    x = a["self"]
    tail = b("log1p_f", b("exp_f", b("neg_f", b("abs_f", x))))
    return b("sub_f", b("min_f", x, 0.0), tail)


def _threshold(b: Builder, a: Args) -> Register:
    x = a["self"]
    return b("select", b("le", x, a["threshold"]), a["value"], x)


def _rrelu(b: Builder, a: Args) -> Register:
    """At inference the slope is the mean of its bounds."""
    return _leaky_relu(b, {**a, "negative_slope": (a["lower"] + a["upper"]) / 2})


def _check_rrelu(args: Args) -> str | None:
    require(not args["training"], "rrelu in training mode is random; call model.eval() first")
    return None


def _prelu_kernel(b: Builder, a: Args) -> Register:
    x = a["self"]
    return b("select_f", b("lt_f", 0.0, x), x, b("mul_f", x, a["weight"]))


def _check_glu(node: Node) -> str | None:
    x = node.tensor("self")
    dim = axis(node.args["dim"], x.rank)
    require(x.rank > 0 and x.shape[dim] % 2 == 0, f"{list(x.shape)} has no halves along {dim}")
    same_shape(node, (*x.shape[:dim], x.shape[dim] // 2, *x.shape[dim + 1 :]))
    return None


def _lower_glu(lowering: Lowering, node: Node) -> None:
    """The first half along ``dim`` times the sigmoid of the second."""
    x = lowering.read(node.tensor("self"))
    dim = axis(node.args["dim"], len(x.shape))
    half = x.shape[dim] // 2
    out = lowering.define(node.output, image=lowering.is_image(node.tensor("self")))
    b = Builder()
    value, gate = (b.load(x.slice(dim, start, half)) for start in (0, half))
    emit_program(lowering, out, b, b("mul_f", value, b("sigmoid_f", gate)), node)


def _check_prelu(node: Node) -> str | None:
    x, weight = node.tensor("self"), node.tensor("weight")
    channels = x.shape[1] if x.rank >= 2 else 1
    require(
        weight.rank <= min(1, x.rank) and weight.numel in (1, channels),
        f"the weight must have one value or {channels}, got {list(weight.shape)}",
    )
    same_shape(node, x.shape)
    return None


def _lower_prelu(lowering: Lowering, node: Node) -> None:
    weight = node.tensor("weight")
    out = lowering.define(node.output, image=lowering.is_image(node.tensor("self")))
    b = Builder()
    x = b.load(node.tensor("self"))
    slope = b.load(lowering.channel_parameter(weight, out) if weight.rank else weight)
    result = b("select_f", b("lt_f", 0.0, x), x, b("mul_f", x, slope))
    emit_program(lowering, out, b, result, node)


def _check_approximate(args: Args) -> str | None:
    mode = args["approximate"]
    require(mode in ("none", "tanh"), f"approximate must be 'none' or 'tanh', got {mode!r}")
    return None


def _record(
    op_type: str,
    emit: Formula,
    signature: str = "self:T",
    check_attrs: Callable[[Args], str | None] | None = None,
) -> OpRecord:
    return pointwise(
        op_type, signature, emit, promotes=("self",), computes=FLOATS, check_attrs=check_attrs
    )


def _bounded(
    op_type: str,
    emit: Formula,
    clamp: Callable[[Args], tuple[float, float] | None],
    signature: str = "self:T",
) -> OpRecord:
    return pointwise(op_type, signature, emit, promotes=("self",), computes=NUMBERS, clamp=clamp)


def _fusable(record: OpRecord, name: str | Callable[[Args], str]) -> OpRecord:
    """An op that gemm and conv2d can apply to their result, too."""
    return replace(record, activation=(lambda a: name) if isinstance(name, str) else name)


RECORDS = (
    _bounded("aten.relu.default", _relu, lambda a: (0.0, inf)),
    _bounded("aten.relu6.default", _relu6, lambda a: (0.0, 6.0)),
    _bounded(
        "aten.hardtanh.default",
        _hardtanh,
        scalar_bounds("min_val", "max_val"),
        "self:T, min_val=-1, max_val=1",
    ),
    _record("aten.leaky_relu.default", _leaky_relu, "self:T, negative_slope=0.01"),
    _fusable(
        pointwise("aten.sigmoid.default", "self:T", unary("sigmoid_f"), to_float=True), "sigmoid"
    ),
    _fusable(pointwise("aten.tanh.default", "self:T", unary("tanh_f"), to_float=True), "tanh"),
    _fusable(_record("aten.silu.default", unary("silu_f")), "silu"),
    _fusable(
        _record("aten.gelu.default", _gelu, "self:T, approximate='none'", _check_approximate),
        lambda a: "gelu_tanh" if a["approximate"] == "tanh" else "gelu",
    ),
    _fusable(_record("aten.hardswish.default", _hardswish), "hardswish"),
    _fusable(_record("aten.hardsigmoid.default", _hardsigmoid), "hardsigmoid"),
    _record("aten.elu.default", _elu, "self:T, alpha=1, scale=1, input_scale=1"),
    _record("aten.mish.default", _mish),
    _record("aten.softplus.default", _softplus, "self:T, beta=1, threshold=20"),
    _record("aten.celu.default", _celu, "self:T, alpha=1.0"),
    _record("aten.selu.default", _selu),
    _record("aten.hardshrink.default", _hardshrink, "self:T, lambd=0.5"),
    _record("aten.softshrink.default", _softshrink, "self:T, lambd=0.5"),
    _record("aten.log_sigmoid.default", _log_sigmoid),
    _record(
        "aten.rrelu.default",
        _rrelu,
        "self:T, lower=0.125, upper=0.3333333333333333, training=False, generator=None",
        _check_rrelu,
    ),
    pointwise(
        "aten.threshold.default",
        "self:T, threshold, value",
        _threshold,
        promotes=("self",),
        computes=NUMBERS,
    ),
    pointwise(
        "aten._prelu_kernel.default",
        "self:T, weight:T",
        _prelu_kernel,
        promotes=("self", "weight"),
        computes=FLOATS,
    ),
    OpRecord("aten.glu.default", "self:T, dim=-1", lower=_lower_glu, check=_check_glu),
    OpRecord("aten.prelu.default", "self:T, weight:T", lower=_lower_prelu, check=_check_prelu),
)


def _formulas() -> Iterator[tuple[str, Callable[[Builder, Register], Register]]]:
    for record in RECORDS:
        if record.activation is None or record.emit is None:
            continue
        for approximate in ("none", "tanh"):
            args = {"approximate": approximate}
            yield record.activation(args), partial(_apply, record.emit, args)


def _apply(emit: Formula, args: Args, b: Builder, x: Register) -> Register:
    return emit(b, {**args, "self": x})


# The activations that gemm and conv2d can apply (kernels/activation.py), of a register.
FORMULAS = dict(_formulas())
