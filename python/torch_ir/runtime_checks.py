"""Run-time checks of an exported graph, turned from Python numbers into tensors.

``torch._check(t.all().item())`` is traced as a chain of Python numbers: ``item`` reads a tensor,
comparisons and ``sym_ite`` compute with what it holds, ``_assert_scalar`` checks the outcome. The
IR has tensors only, so the chain is followed with a tensor in place of each number and ends in
``_assert_async``, which raises the same message when the check fails.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from .errors import ConversionError
from .ir import TensorMeta

__all__ = ["RuntimeNumber", "check_step", "refuse_numbers"]

_ATEN = torch.ops.aten
_COMPARISONS = {
    operator.eq: _ATEN.eq.Scalar,
    operator.ge: _ATEN.ge.Scalar,
    operator.gt: _ATEN.gt.Scalar,
    operator.le: _ATEN.le.Scalar,
    operator.lt: _ATEN.lt.Scalar,
    operator.ne: _ATEN.ne.Scalar,
}
# Adds a call of an operator to the graph; returns its results.
Emit = Callable[[Any, tuple[Any, ...]], list[TensorMeta]]


@dataclass(frozen=True, slots=True)
class RuntimeNumber:
    """A Python number that is known only at run time: the element of ``tensor``."""

    tensor: TensorMeta
    node: str


def check_step(name: str, target: Any, args: tuple[Any, ...], emit: Emit) -> tuple[bool, Any]:
    """Follow one step of a check.

    Args:
        name: the graph node.
        target, args: what it calls; numbers known at run time are `RuntimeNumber`.

    Returns:
        Whether this is a step of a check, and then what stands for its result.
    """
    if target is _ATEN.item.default and isinstance(args[0], TensorMeta):
        return True, RuntimeNumber(args[0], name)
    if target is _ATEN._assert_scalar.default:
        condition, message = args[:2]
        if isinstance(condition, RuntimeNumber):
            emit(_ATEN._assert_async.msg, (condition.tensor, message))
            return True, None
        if condition:
            return True, None
        raise ConversionError(f"node {name!r}: this check always fails: {message}")
    number = args[0] if args else None
    if not isinstance(number, RuntimeNumber):
        return False, None
    if target is torch.sym_ite and args[1:] == (1, 0):
        return True, number
    if target in _COMPARISONS and isinstance(args[1], (bool, int, float)):
        return True, RuntimeNumber(emit(_COMPARISONS[target], (number.tensor, args[1]))[0], name)
    return False, None


def refuse_numbers(name: str, values: Any) -> None:
    """Raise ConversionError if a number known only at run time is among ``values``."""
    for leaf in tree_leaves(values):
        if isinstance(leaf, RuntimeNumber):
            raise ConversionError(
                f"node {name!r}: uses what {leaf.node!r} reads with item(), a number known only at "
                "run time; only tensors can be represented, so keep the value in a tensor instead "
                "of calling item()"
            )
