"""What the records of elementwise operators share: checks, and formulas of one scalar op."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from npu_compiler.arrays import cast
from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import require, same_shape
from npu_compiler.ops.record import ALL, FLOATS, INTEGERS, OpRecord

if TYPE_CHECKING:
    from npu_compiler.elementwise import Builder, Operand, Register

Args = Mapping[str, Any]
Formula = Callable[["Builder", Args], "Register"]
NUMBERS = FLOATS | INTEGERS


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
    """Operands broadcast to the declared shape."""
    same_shape(node, broadcast_shape(node))
    require(any(isinstance(a, Value) for a in node.args.values()), "it has no tensor operand")
    return None


def check_float(node: Node) -> str | None:
    """As check_elementwise, for operators that give a float."""
    check_elementwise(node)
    require(node.output.dtype in FLOATS, f"the result is {node.output.dtype}, not a float")
    return None


def unary(op: str) -> Formula:
    """The formula of one scalar op on ``self``."""
    return lambda b, a: b(op, a["self"])


def binary(op: str) -> Formula:
    """The formula of one scalar op on ``self`` and ``other``."""
    return lambda b, a: b(op, a["self"], a["other"])


def rounded(b: Builder, operand: Operand) -> Operand:
    """A number as the dtype that is computed in; a register holds such values already. PyTorch
    does so where an operator treats a number as a tensor without dimensions.
    """
    if isinstance(operand, (int, float)) and b.dtype in ("float16", "bfloat16"):
        return float(cast(np.asarray(operand, np.float64), b.dtype))
    return operand


def pointwise(
    op_type: str,
    signature: str,
    emit: Formula,
    *,
    promotes: tuple[str, ...] = ("self", "other"),
    to_float: bool | Callable[[Args], bool] = False,
    result: str = "common",
    computes: frozenset[str] = ALL,
    check_attrs: Callable[[Args], str | None] | None = None,
    clamp: Callable[[Args], tuple[float, float] | None] | None = None,
) -> OpRecord:
    """A record of an elementwise operator; see OpRecord for the fields."""
    return OpRecord(
        op_type,
        signature,
        emit=emit,
        check=check_elementwise,
        check_attrs=check_attrs,
        clamp=clamp,
        dtypes=ALL,
        promotes=promotes,
        to_float=to_float,
        result=result,
        computes=computes,
    )
