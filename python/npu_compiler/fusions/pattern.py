"""Patterns over the graph: what a fusion looks for, written as the expression that it replaces.

A pattern is matched against a value (or an attribute) and walks up through the nodes that produce
it::

    x = Capture("x")
    mean_square = Op(MEAN, self=Op(POW, self=x, exponent=2), dim=Capture("dim"), keepdim=True)

Arguments that a pattern does not name are free; a number or string stands for an equal attribute.
A capture that occurs twice must be the very same value (or an equal attribute) both times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from npu_compiler.dtypes import FLOATING
from npu_compiler.graph import Node, Value

CASTS = frozenset(
    {
        "aten.to.dtype",
        "aten.to.dtype_layout",
        "aten.to.device",
        "aten._to_copy.default",
        "aten.type_as.default",
    }
)


@dataclass(frozen=True)
class Match:
    """What a pattern found: captures by name, and the nodes that it went through, last first."""

    captures: Mapping[str, Any] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()

    def value(self, name: str) -> Value:
        """The tensor captured as ``name``; KeyError (TypeError for an attribute) otherwise."""
        found = self.captures[name]
        if not isinstance(found, Value):
            raise TypeError(f"{name} is no tensor: {found!r}")
        return found

    def with_capture(self, name: str, subject: Any) -> Match:
        """This match and one more capture."""
        return Match({**self.captures, name: subject}, self.nodes)

    def with_node(self, node: Node) -> Match:
        """This match and one more node."""
        return self if node in self.nodes else Match(self.captures, (*self.nodes, node))


class Pattern:
    """Something that a value or an attribute can match, perhaps in several ways."""

    def match(self, subject: Any, found: Match) -> Iterator[Match]:
        """Every way in which ``subject`` matches, each an extension of ``found``."""
        raise NotImplementedError


def as_pattern(part: Any) -> Pattern:
    """``part`` itself if it is a pattern, else the attribute that equals it."""
    return part if isinstance(part, Pattern) else Equal(part)


@dataclass(frozen=True)
class Capture(Pattern):
    """Any tensor or attribute, remembered by name."""

    name: str

    def match(self, subject: Any, found: Match) -> Iterator[Match]:
        if self.name not in found.captures:
            yield found.with_capture(self.name, subject)
            return
        known = found.captures[self.name]
        tensor = isinstance(known, Value) or isinstance(subject, Value)
        if known is subject or (not tensor and known == subject):
            yield found


@dataclass(frozen=True)
class Number(Pattern):
    """An attribute that is a number, remembered by name."""

    name: str

    def match(self, subject: Any, found: Match) -> Iterator[Match]:
        if isinstance(subject, (int, float)) and not isinstance(subject, bool):
            yield from Capture(self.name).match(subject, found)


@dataclass(frozen=True)
class Equal(Pattern):
    """An attribute equal to ``expected``; floats may differ by ``relative``."""

    expected: Any
    relative: float = 0.0

    def match(self, subject: Any, found: Match) -> Iterator[Match]:
        if isinstance(subject, Value):
            return
        expected = self.expected
        if subject == expected or (
            self.relative
            and isinstance(subject, float)
            and abs(subject - expected) <= abs(expected) * self.relative
        ):
            yield found


@dataclass(frozen=True)
class Either(Pattern):
    """One of several patterns."""

    patterns: tuple[Pattern, ...]

    def match(self, subject: Any, found: Match) -> Iterator[Match]:
        for pattern in self.patterns:
            yield from pattern.match(subject, found)


@dataclass(frozen=True)
class Items(Pattern):
    """A list of exactly these, in order."""

    patterns: tuple[Pattern, ...]

    def match(self, subject: Any, found: Match) -> Iterator[Match]:
        if isinstance(subject, list) and len(subject) == len(self.patterns):
            yield from _match_items(list(zip(self.patterns, subject, strict=True)), found)


@dataclass(frozen=True)
class Cast(Pattern):
    """``inner``, or a chain of casts between float dtypes that ends in it. The fused kernel
    computes in float32 and rounds once, so casts in the middle of it have nothing left to do.
    """

    inner: Pattern

    def match(self, subject: Any, found: Match) -> Iterator[Match]:
        while True:
            yield from self.inner.match(subject, found)
            if not isinstance(subject, Value) or not is_float_cast(subject.producer):
                return
            node = subject.producer
            if node is None:
                return
            found = found.with_node(node)
            subject = node.tensor("self")


class Op(Pattern):
    """A node of one of ``op_types`` (separated by spaces) whose output ``index`` is the subject.

    With ``commutes`` the arguments ``self`` and ``other`` match in either order.
    """

    def __init__(
        self, op_types: str, index: int = 0, /, *, commutes: bool = False, **args: Any
    ) -> None:
        self.op_types = frozenset(op_types.split())
        self.index = index
        self.commutes = commutes
        self.args = {name: as_pattern(part) for name, part in args.items()}

    def _orders(self) -> Iterator[Mapping[str, Pattern]]:
        yield self.args
        if self.commutes:
            yield {**self.args, "self": self.args["other"], "other": self.args["self"]}

    def match(self, subject: Any, found: Match) -> Iterator[Match]:
        if not isinstance(subject, Value) or subject.producer is None:
            return
        node = subject.producer
        if node.op_type not in self.op_types or node.epilogue != type(node.epilogue)():
            return
        if subject.index != self.index:
            return
        for args in self._orders():
            if args.keys() <= node.args.keys():
                pairs = [(pattern, node.args[name]) for name, pattern in args.items()]
                yield from _match_items(pairs, found.with_node(node))


def _match_items(pairs: list[tuple[Pattern, Any]], found: Match) -> Iterator[Match]:
    """Every way in which all patterns match their subjects."""
    if not pairs:
        yield found
        return
    (pattern, subject), rest = pairs[0], pairs[1:]
    for extended in pattern.match(subject, found):
        yield from _match_items(rest, extended)


def is_float_cast(node: Node | None) -> bool:
    """Whether the node only converts between float dtypes."""
    if node is None or node.op_type not in CASTS:
        return False
    source = node.args.get("self")
    return (
        isinstance(source, Value)
        and source.dtype in FLOATING
        and node.output.dtype in FLOATING
        and source.shape == node.output.shape
    )
