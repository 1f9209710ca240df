"""Elementwise arithmetic: records whose formulas follow PyTorch's, in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import number, require, same_shape
from npu_compiler.ops.record import FLOATS, FLOATS_AND_BOOL, OpRecord

if TYPE_CHECKING:
    from npu_compiler.elementwise import Builder, Register

Args = Mapping[str, Any]
# Exponents of pow that have a formula of multiplications and roots.
POW_EXPONENTS = (-2, -1, -0.5, 0, 0.5, 1, 2, 3, 4)


def broadcast_shape(node: Node) -> tuple[int, ...]:
    """The shape that the node's tensors broadcast to; refuses those that do not."""
    tensors = [a for a in node.args.values() if isinstance(a, Value)]
    shape: list[int] = []
    for value in tensors:
        own = [1] * (len(shape) - value.rank) + list(value.shape)
        shape = [1] * (len(own) - len(shape)) + shape
        for d, (n, m) in enumerate(zip(shape, own, strict=True)):
            require(
                n == m or n == 1 or m == 1,
                f"shapes {[list(v.shape) for v in tensors]} do not broadcast",
            )
            shape[d] = m if n == 1 else n
    return tuple(shape)


def check_elementwise(node: Node) -> str | None:
    """Operands broadcast to the declared shape; numbers are real."""
    same_shape(node, broadcast_shape(node))
    require(any(isinstance(a, Value) for a in node.args.values()), "it has no tensor operand")
    return None


def check_float(node: Node) -> str | None:
    """As check_elementwise, for operators that give a float."""
    check_elementwise(node)
    require(node.output.dtype in FLOATS, f"the result is {node.output.dtype}, not a float")
    return None


def _scaled(b: Builder, value: Any, alpha: Any) -> Any:
    if alpha == 1:
        return value
    if isinstance(value, (int, float)):
        return value * alpha
    return b("mul_f", value, alpha)


def _add(b: Builder, a: Args) -> Register:
    return b("add_f", a["self"], _scaled(b, a["other"], a.get("alpha", 1)))


def _sub(b: Builder, a: Args) -> Register:
    return b("sub_f", a["self"], _scaled(b, a["other"], a.get("alpha", 1)))


def _rsub(b: Builder, a: Args) -> Register:
    return b("sub_f", a["other"], _scaled(b, a["self"], a.get("alpha", 1)))


def _pow(b: Builder, a: Args) -> Register:
    x, exponent = a["self"], a["exponent"]
    if exponent == 0:
        return b.constant(1.0)
    square = b("mul_f", x, x) if abs(exponent) >= 2 else x
    match abs(exponent):
        case 0.5:
            result = b("sqrt_f", x)
        case 3:
            result = b("mul_f", square, x)
        case 4:
            result = b("mul_f", square, square)
        case _:
            result = square
    return result if exponent > 0 else b("div_f", 1.0, result)


def _check_alpha(args: Args) -> str | None:
    number(args.get("alpha", 1), "alpha")
    return None


def _check_rounding(args: Args) -> str | None:
    mode = args.get("rounding_mode")
    require(mode is None, f"rounding_mode={mode!r} is not supported, only true division")
    return None


def _check_exponent(args: Args) -> str | None:
    value = number(args["exponent"], "exponent")
    require(
        value in POW_EXPONENTS,
        f"exponent {value} is not supported; supported are {', '.join(map(str, POW_EXPONENTS))}",
    )
    return None


def unary(op: str) -> Callable[[Builder, Args], Register]:
    """The formula of one scalar op on ``self``."""
    return lambda b, a: b(op, a["self"])


def binary(op: str) -> Callable[[Builder, Args], Register]:
    """The formula of one scalar op on ``self`` and ``other``."""
    return lambda b, a: b(op, a["self"], a["other"])


def _record(
    op_type: str,
    signature: str,
    emit: Callable[[Builder, Args], Register],
    check_attrs: Callable[[Args], str | None] | None = None,
) -> OpRecord:
    # Bools count as 0 and 1 where PyTorch promotes them to the other operand's float.
    return OpRecord(
        op_type,
        signature,
        emit=emit,
        check=check_float,
        check_attrs=check_attrs,
        dtypes=FLOATS_AND_BOOL,
    )


_BINARY = "self:T, other:T"
_ALPHA = "self:T, other:T, alpha=1"
RECORDS = (
    _record("aten.add.Tensor", _ALPHA, _add, _check_alpha),
    _record("aten.add.Scalar", "self:T, other, alpha=1", _add, _check_alpha),
    _record("aten.sub.Tensor", _ALPHA, _sub, _check_alpha),
    _record("aten.sub.Scalar", "self:T, other, alpha=1", _sub, _check_alpha),
    _record("aten.rsub.Tensor", _ALPHA, _rsub, _check_alpha),
    _record("aten.rsub.Scalar", "self:T, other, alpha=1", _rsub, _check_alpha),
    _record("aten.mul.Tensor", _BINARY, binary("mul_f")),
    _record("aten.mul.Scalar", "self:T, other", binary("mul_f")),
    _record("aten.div.Tensor", _BINARY, binary("div_f")),
    _record("aten.div.Scalar", "self:T, other", binary("div_f")),
    _record("aten.true_divide.Tensor", _BINARY, binary("div_f")),
    _record(
        "aten.div.Tensor_mode", "self:T, other:T, rounding_mode", binary("div_f"), _check_rounding
    ),
    _record(
        "aten.div.Scalar_mode", "self:T, other, rounding_mode", binary("div_f"), _check_rounding
    ),
    _record("aten.maximum.default", _BINARY, binary("max_f")),
    _record("aten.minimum.default", _BINARY, binary("min_f")),
    _record("aten.max.other", _BINARY, binary("max_f")),
    _record("aten.min.other", _BINARY, binary("min_f")),
    _record("aten.neg.default", "self:T", unary("neg_f")),
    _record("aten.abs.default", "self:T", unary("abs_f")),
    _record("aten.exp.default", "self:T", unary("exp_f")),
    _record("aten.log.default", "self:T", unary("log_f")),
    _record("aten.sqrt.default", "self:T", unary("sqrt_f")),
    _record("aten.rsqrt.default", "self:T", unary("rsqrt_f")),
    _record("aten.erf.default", "self:T", unary("erf_f")),
    _record("aten.reciprocal.default", "self:T", lambda b, a: b("div_f", 1.0, a["self"])),
    _record("aten.square.default", "self:T", lambda b, a: b("mul_f", a["self"], a["self"])),
    _record("aten.copy.default", "self:T, src:T, non_blocking=False", lambda b, a: a["src"]),
    _record("aten.fill.Scalar", "self:T, value", lambda b, a: b.constant(a["value"])),
    _record("aten.fill.Tensor", "self:T, value:T", lambda b, a: a["value"]),
    _record("aten.zero.default", "self:T", lambda b, a: b.constant(0.0)),
    _record("aten.pow.Tensor_Scalar", "self:T, exponent", _pow, _check_exponent),
)
