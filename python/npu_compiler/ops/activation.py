"""Activations: elementwise formulas as PyTorch computes them (in float32)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, pi, sqrt
from typing import TYPE_CHECKING, Any

from npu_compiler.elementwise import Builder, Register
from npu_compiler.elementwise_dispatch import emit_program
from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import number, require, same_shape
from npu_compiler.ops.arithmetic import check_float, unary
from npu_compiler.ops.record import OpRecord

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

Args = Mapping[str, Any]
Formula = Callable[["Builder", Args], "Register"]


def _clamped(b: Builder, x: Any, low: Any, high: Any) -> Any:
    """min(max(x, low), high): NaN stays, and ``high`` wins over ``low``."""
    if low is not None:
        x = b("max_f", x, low)
    return x if high is None else b("min_f", x, high)


def _clamp(b: Builder, a: Args) -> Register:
    result: Register = _clamped(b, a["self"], a.get("min"), a.get("max"))
    return result


def _hardtanh(b: Builder, a: Args) -> Register:
    result: Register = _clamped(b, a["self"], a["min_val"], a["max_val"])
    return result


def _relu(b: Builder, a: Args) -> Register:
    return b("max_f", a["self"], 0.0)


def _relu6(b: Builder, a: Args) -> Register:
    result: Register = _clamped(b, a["self"], 0.0, 6.0)
    return result


def _leaky_relu(b: Builder, a: Args) -> Register:
    x = a["self"]
    return b("select_f", b("lt_f", 0.0, x), x, b("mul_f", x, a["negative_slope"]))


def _silu(b: Builder, a: Args) -> Register:
    x = a["self"]
    return b("mul_f", x, b("sigmoid_f", x))


def _gelu(b: Builder, a: Args) -> Register:
    x = a["self"]
    if a["approximate"] == "tanh":
        cube = b("mul_f", b("mul_f", x, x), x)
        inner = b("mul_f", b("add_f", x, b("mul_f", cube, 0.044715)), sqrt(2 / pi))
        gate = b("tanh_f", inner)
    else:
        gate = b("erf_f", b("mul_f", x, sqrt(0.5)))
    return b("mul_f", b("mul_f", x, 0.5), b("add_f", gate, 1.0))


def _hardsigmoid(b: Builder, a: Args) -> Register:
    return b("div_f", _clamped(b, b("add_f", a["self"], 3.0), 0.0, 6.0), 6.0)


def _hardswish(b: Builder, a: Args) -> Register:
    x = a["self"]
    return b("div_f", b("mul_f", x, _clamped(b, b("add_f", x, 3.0), 0.0, 6.0)), 6.0)


def _elu(b: Builder, a: Args) -> Register:
    x, scale = a["self"], a["scale"]
    grown = b("sub_f", b("exp_f", b("mul_f", x, a["input_scale"])), 1.0)
    below = b("mul_f", grown, a["alpha"] * scale)
    return b("select_f", b("lt_f", 0.0, x), b("mul_f", x, scale), below)


def _softplus_of(b: Builder, x: Any, beta: float, threshold: float) -> Register:
    scaled = b("mul_f", x, beta)
    soft = b("div_f", b("log_f", b("add_f", b("exp_f", scaled), 1.0)), beta)
    return b("select_f", b("lt_f", threshold, scaled), x, soft)


def _softplus(b: Builder, a: Args) -> Register:
    return _softplus_of(b, a["self"], a["beta"], a["threshold"])


def _mish(b: Builder, a: Args) -> Register:
    x = a["self"]
    return b("mul_f", x, b("tanh_f", _softplus_of(b, x, 1.0, 20.0)))


def _check_prelu(node: Node) -> str | None:
    x, weight = node.tensor("self"), node.tensor("weight")
    channels = x.shape[1] if x.rank >= 2 else 1
    require(
        weight.rank <= 1 and weight.numel in (1, channels),
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


def _scalar_bounds(low_name: str, high_name: str) -> Callable[[Args], tuple[float, float] | None]:
    def bounds(args: Args) -> tuple[float, float] | None:
        low, high = args.get(low_name), args.get(high_name)
        if isinstance(low, Value) or isinstance(high, Value):
            return None
        return (-inf if low is None else low, inf if high is None else high)

    return bounds


def _check_bounds(args: Args) -> str | None:
    low, high = args.get("min"), args.get("max")
    require(low is not None or high is not None, "min and max are both absent")
    for name, value in (("min", low), ("max", high)):
        if value is not None and not isinstance(value, Value):
            require(number(value, name) == value, f"{name} must not be NaN")
    return None


def _check_approximate(args: Args) -> str | None:
    mode = args["approximate"]
    require(mode in ("none", "tanh"), f"approximate must be 'none' or 'tanh', got {mode!r}")
    return None


def _record(
    op_type: str,
    emit: Formula,
    signature: str = "self:T",
    clamp: Callable[[Args], tuple[float, float] | None] | None = None,
    check_attrs: Callable[[Args], str | None] | None = None,
) -> OpRecord:
    return OpRecord(
        op_type, signature, emit=emit, check=check_float, clamp=clamp, check_attrs=check_attrs
    )


_BOUNDS = _scalar_bounds("min", "max")
RECORDS = (
    _record("aten.relu.default", _relu, clamp=lambda a: (0.0, inf)),
    _record("aten.relu6.default", _relu6, clamp=lambda a: (0.0, 6.0)),
    _record(
        "aten.hardtanh.default",
        _hardtanh,
        "self:T, min_val=-1, max_val=1",
        _scalar_bounds("min_val", "max_val"),
    ),
    _record("aten.clamp.default", _clamp, "self:T, min=None, max=None", _BOUNDS, _check_bounds),
    _record("aten.clamp.Tensor", _clamp, "self:T, min:T?, max:T?"),
    _record("aten.clamp_min.default", _clamp, "self:T, min", _BOUNDS, _check_bounds),
    _record("aten.clamp_max.default", _clamp, "self:T, max", _BOUNDS, _check_bounds),
    _record("aten.leaky_relu.default", _leaky_relu, "self:T, negative_slope=0.01"),
    _record("aten.sigmoid.default", unary("sigmoid_f")),
    _record("aten.tanh.default", unary("tanh_f")),
    _record("aten.silu.default", _silu),
    _record(
        "aten.gelu.default", _gelu, "self:T, approximate='none'", check_attrs=_check_approximate
    ),
    _record("aten.hardswish.default", _hardswish),
    _record("aten.hardsigmoid.default", _hardsigmoid),
    _record("aten.elu.default", _elu, "self:T, alpha=1, scale=1, input_scale=1"),
    _record("aten.mish.default", _mish),
    _record("aten.softplus.default", _softplus, "self:T, beta=1, threshold=20"),
    OpRecord("aten.prelu.default", "self:T, weight:T", lower=_lower_prelu, check=_check_prelu),
)
