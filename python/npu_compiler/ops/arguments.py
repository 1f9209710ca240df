"""Checks of a node's arguments: each refuses what does not hold with a reason that gives the value
found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from npu_compiler.graph import Node


class Refusal(Exception):
    """A rule does not hold; the text is the reason."""


def require(holds: bool, reason: str) -> None:
    """Raise Refusal with ``reason`` unless ``holds``."""
    if not holds:
        raise Refusal(reason)


def is_number(value: Any) -> bool:
    """Whether ``value`` is a real number that a float64 holds."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 1000)


def number(value: Any, name: str) -> float:
    """``value`` as a number; refuses anything else."""
    if is_number(value):
        return float(value) if isinstance(value, float) else int(value)
    raise Refusal(f"{name} must be a number, got {value!r}")


def integer(value: Any, name: str) -> int:
    """``value`` as an integer; refuses anything else."""
    require(
        isinstance(value, int) and not isinstance(value, bool),
        f"{name} must be an integer, got {value!r}",
    )
    return int(value)


def integers(value: Any, name: str) -> tuple[int, ...]:
    """``value`` as a tuple of integers (a lone integer is a tuple of one)."""
    if isinstance(value, (list, tuple)):
        return tuple(integer(v, name) for v in value)
    return (integer(value, name),)


def pair(value: Any, name: str) -> tuple[int, int]:
    """``value`` as (rows, columns): two integers, or one for both."""
    found = integers(value, name)
    require(len(found) in (1, 2), f"{name} must have one or two values, got {list(found)}")
    return found[0], found[-1]


def axis(value: Any, rank: int, name: str = "dim") -> int:
    """``value`` as a dimension from 0 on; negative ones count from the end."""
    dim = integer(value, name)
    bound = max(rank, 1)
    require(-bound <= dim < bound, f"{name} {dim} is out of range for rank {rank}")
    return dim % bound


def same_shape(node: Node, expected: Sequence[int], index: int = 0) -> None:
    """Refuse a node whose declared output shape is not what the op gives."""
    declared = node.outputs[index].shape
    require(
        tuple(expected) == declared,
        f"the IR declares its result as {list(declared)}, but the op gives {list(expected)}",
    )
