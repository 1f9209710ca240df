"""A group of elementwise nodes, and its dispatch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from npu_compiler.elementwise_dispatch import emit_outputs
from npu_compiler.elementwise_program import build_program
from npu_compiler.graph import Node, Value

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


@dataclass(eq=False, slots=True)
class Group:
    """Nodes in order (which it iterates over), and those of their results that something outside
    reads.
    """

    nodes: list[Node]
    outputs: list[Value] = field(default_factory=list)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    @property
    def last(self) -> Node:
        """The node where the group stands among others."""
        return self.nodes[-1]

    @property
    def name(self) -> str:
        """The names of its nodes in the IR."""
        return "+".join(origin for node in self.nodes for origin in node.origins)


def lower_elementwise(lowering: Lowering, group: Group) -> None:
    """One elementwise dispatch (and perhaps fills of the padding) for the group."""
    program = build_program(group.nodes)
    outside = [h for h in program.builder.inputs if isinstance(h, Value)]
    image = lowering.is_image(*outside)
    results = [
        (lowering.define(v, image=image, strided=True), program.results[v]) for v in group.outputs
    ]
    emit_outputs(lowering, results, program.builder, group.last, name=group.name)
