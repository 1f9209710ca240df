"""Losses: a formula of each element, and the mean or the sum of its values."""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi, prod
from typing import TYPE_CHECKING

from npu_compiler.elementwise import Builder, Register
from npu_compiler.elementwise_dispatch import emit_program
from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import integer, number, require, same_shape
from npu_compiler.ops.map_reduction import Load, MapReduction, division, unchanged
from npu_compiler.ops.pointwise import Args, broadcast_shape
from npu_compiler.ops.promotion import result_type
from npu_compiler.ops.record import OpRecord
from npu_compiler.reduction_dispatch import emit_reduction

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

# The loss of one element: of the arguments, with tensors as float32 registers.
Formula = Callable[[Builder, Args], Register]
# The values of ``reduction``.
_NONE, _MEAN, _SUM = 0, 1, 2


def _squared(b: Builder, a: Args) -> Register:
    d = b("sub_f", a["self"], a["target"])
    return b("mul_f", d, d)


def _absolute(b: Builder, a: Args) -> Register:
    return b("abs_f", b("sub_f", a["self"], a["target"]))


def _half_square(b: Builder, z: Register) -> Register:
    return b("mul_f", b("mul_f", z, z), 0.5)


def _smooth_l1(b: Builder, a: Args) -> Register:
    z, beta = _absolute(b, a), float(a["beta"])
    if beta == 0:
        return z
    near = b("div_f", _half_square(b, z), beta)
    return b("select_f", b("lt_f", z, beta), near, b("sub_f", z, 0.5 * beta))


def _huber(b: Builder, a: Args) -> Register:
    z, delta = _absolute(b, a), float(a["delta"])
    far = b("mul_f", b("sub_f", z, 0.5 * delta), delta)
    return b("select_f", b("lt_f", z, delta), _half_square(b, z), far)


def _weighted(b: Builder, a: Args, loss: Register) -> Register:
    return loss if a["weight"] is None else b("mul_f", loss, a["weight"])


def _cross_entropy_with_logits(b: Builder, a: Args) -> Register:
    x, t = a["self"], a["target"]
    tail = b("log1p_f", b("exp_f", b("neg_f", b("abs_f", x))))
    # -log(sigmoid(x)), which no x makes overflow.
    missed = b("sub_f", tail, b("min_f", x, 0.0))
    if a["pos_weight"] is not None:
        factor = b("add_f", b("mul_f", b("sub_f", a["pos_weight"], 1.0), t), 1.0)
        missed = b("mul_f", missed, factor)
    return _weighted(b, a, b("add_f", b("mul_f", b("sub_f", 1.0, t), x), missed))


def _kl_div(b: Builder, a: Args) -> Register:
    x, t = a["self"], a["target"]
    if a["log_target"]:
        return b("mul_f", b("exp_f", t), b("sub_f", t, x))
    entropy = b("select_f", b("eq_f", t, 0.0), 0.0, b("mul_f", t, b("log_f", t)))
    return b("sub_f", entropy, b("mul_f", t, x))


def _soft_margin(b: Builder, a: Args) -> Register:
    return b("log1p_f", b("exp_f", b("neg_f", b("mul_f", a["self"], a["target"]))))


def _poisson(b: Builder, a: Args) -> Register:
    x, t = a["input"], a["target"]
    if a["log_input"]:
        loss = b("sub_f", b("exp_f", x), b("mul_f", t, x))
    else:
        loss = b("sub_f", x, b("mul_f", t, b("log_f", b("add_f", x, float(a["eps"])))))
    if not a["full"]:
        return loss
    # Stirling's approximation of log(t!), beyond 1 alone.
    log_t = b("log_f", t)
    half = b("mul_f", b("add_f", log_t, log(2 * pi)), 0.5)
    stirling = b("add_f", b("sub_f", b("mul_f", t, log_t), t), half)
    return b("add_f", loss, b("select_f", b("le_f", t, 1.0), 0.0, stirling))


def _margin_ranking(b: Builder, a: Args) -> Register:
    d = b("mul_f", b("sub_f", a["input1"], a["input2"]), b("neg_f", a["target"]))
    return b("max_f", b("add_f", d, float(a["margin"])), 0.0)


def _hinge_embedding(b: Builder, a: Args) -> Register:
    x, t = a["self"], a["target"]
    apart = b("max_f", b("sub_f", float(a["margin"]), x), 0.0)
    unlike = b("select_f", b("eq_f", t, 1.0), 0.0, apart)
    return b("add_f", unlike, b("select_f", b("eq_f", t, -1.0), 0.0, x))


_PAIR = "self:T, target:T"
_LOSSES: dict[str, tuple[str, Formula]] = {
    "mse_loss": (f"{_PAIR}, reduction=1", _squared),
    "l1_loss": (f"{_PAIR}, reduction=1", _absolute),
    "smooth_l1_loss": (f"{_PAIR}, reduction=1, beta=1.0", _smooth_l1),
    "huber_loss": (f"{_PAIR}, reduction=1, delta=1.0", _huber),
    # Without logits, PyTorch refuses inputs beyond 0 to 1 while it runs: that stays on the CPU.
    "binary_cross_entropy_with_logits": (
        f"{_PAIR}, weight:T?, pos_weight:T?, reduction=1",
        _cross_entropy_with_logits,
    ),
    "kl_div": (f"{_PAIR}, reduction=1, log_target=False", _kl_div),
    "soft_margin_loss": (f"{_PAIR}, reduction=1", _soft_margin),
    "poisson_nll_loss": ("input:T, target:T, log_input, full, eps, reduction", _poisson),
    "margin_ranking_loss": (
        "input1:T, input2:T, target:T, margin=0.0, reduction=1",
        _margin_ranking,
    ),
    "hinge_embedding_loss": (f"{_PAIR}, margin=1.0, reduction=1", _hinge_embedding),
}
_FORMULAS = {f"aten.{name}.default": formula for name, (_, formula) in _LOSSES.items()}


def _check_attrs(args: Args) -> str | None:
    reduction = integer(args["reduction"], "reduction")
    require(
        reduction in (_NONE, _MEAN, _SUM), f"reduction must be 0, 1 or 2, got {args['reduction']}"
    )
    for name in ("beta", "delta", "margin", "eps"):
        if name in args:
            number(args[name], name)
    require(number(args.get("beta", 0), "beta") >= 0, f"beta is negative: {args.get('beta')}")
    require(number(args.get("delta", 1), "delta") > 0, f"delta must be > 0: {args.get('delta')}")
    return None


def _check(node: Node) -> str | None:
    tensors = list(node.inputs())
    shape = broadcast_shape(node)
    same_shape(node, shape if node.args["reduction"] == _NONE else ())
    common = result_type(tensors)
    require(
        node.output.dtype == common,
        f"the result is {common}, the IR declares {node.output.dtype}",
    )
    return None


def _of_element(node: Node, builder: Builder, load: Load) -> Register:
    args = {n: load(a) if isinstance(a, Value) else a for n, a in node.args.items()}
    return _FORMULAS[node.op_type](builder, args)


def _reduction(node: Node) -> MapReduction:
    shape = broadcast_shape(node)
    return MapReduction(
        shape,
        tuple(range(len(shape))),
        False,
        "sum",
        lambda builder, load: _of_element(node, builder, load),
        division(prod(shape)) if node.args["reduction"] == _MEAN else unchanged,
    )


def _map_reduction(node: Node) -> MapReduction | None:
    if node.args["reduction"] == _NONE or not prod(broadcast_shape(node)):
        return None
    return _reduction(node)


def _lower(lowering: Lowering, node: Node) -> None:
    if node.args["reduction"] != _NONE:
        emit_reduction(lowering, node, _reduction(node), lowering.define(node.output, image=False))
        return
    out = lowering.define(node.output, image=lowering.is_image(*node.inputs()), strided=True)
    builder = Builder()
    emit_program(lowering, out, builder, _of_element(node, builder, builder.load), node)


RECORDS = tuple(
    OpRecord(
        f"aten.{name}.default",
        signature,
        lower=_lower,
        check=_check,
        check_attrs=_check_attrs,
        map_reduction=_map_reduction,
    )
    for name, (signature, _) in _LOSSES.items()
)
