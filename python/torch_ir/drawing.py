"""The picture of an IR as boxes and arrows, before it becomes Mermaid text or SVG."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from .ir import GETITEM, IR, IRNode, TensorMeta

__all__ = ["Arrow", "Box", "Drawing", "draw", "op_distribution", "short_op_name"]

_NOT_ID = re.compile(r"\W")


@dataclass(frozen=True, slots=True)
class Box:
    """An operator, an input, a weight, an output or a note; ``lines`` are its texts."""

    identifier: str
    kind: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Arrow:
    """A tensor's way from one box to another; dotted where it is a weight."""

    source: str
    target: str
    label: str | None = None
    dotted: bool = False


@dataclass
class Drawing:
    """Boxes and arrows in the order in which they were drawn."""

    items: list[Box | Arrow] = field(default_factory=list)
    tensors: dict[str, str] = field(default_factory=dict)
    identifiers: set[str] = field(default_factory=set)

    @property
    def boxes(self) -> list[Box]:
        """The boxes alone."""
        return [item for item in self.items if isinstance(item, Box)]

    @property
    def arrows(self) -> list[Arrow]:
        """The arrows alone."""
        return [item for item in self.items if isinstance(item, Arrow)]

    def box(self, kind: str, name: str, *lines: str) -> str:
        """Add a box and return its identifier, which no other box has."""
        wanted = identifier = f"{kind}_{_NOT_ID.sub('_', name)}" if name else kind
        count = 0
        while identifier in self.identifiers:
            count += 1
            identifier = f"{wanted}_{count}"
        self.identifiers.add(identifier)
        self.items.append(Box(identifier, kind, lines))
        return identifier

    def node(self, node: IRNode, weights: set[str], include_weights: bool) -> None:
        """Add a node and the arrows that lead to it, with a weight's box at its first use."""
        shape = ", ".join(shape_text(tensor.shape) for tensor in node.outputs) or "no tensor"
        target = self.box("op", node.name, short_op_name(node.op_type), shape)
        for tensor in node.inputs:
            is_weight = tensor.name in weights
            if is_weight and include_weights and tensor.name not in self.tensors:
                self.tensors[tensor.name] = self.box(
                    "w", tensor.name, tensor.name, shape_text(tensor.shape)
                )
            source = self.tensors.get(tensor.name)
            if source is not None:
                self.items.append(Arrow(source, target, shape_text(tensor.shape), is_weight))
        self.tensors.update((tensor.name, target) for tensor in node.outputs)


def short_op_name(op_type: str) -> str:
    """Return an operator's name as people say it: ``linear``, ``add.Tensor``, ``getitem``."""
    if op_type == GETITEM:
        return "getitem"
    return op_type.removeprefix("aten.").removesuffix(".default")


def shape_text(shape: Sequence[int]) -> str:
    """Return a shape such as ``1x3x32x32``."""
    return "x".join(map(str, shape)) or "scalar"


def op_distribution(ir: IR) -> dict[str, int]:
    """Return how often each operator occurs, the most frequent first."""
    return dict(Counter(node.op_type for node in ir.nodes).most_common())


def draw(ir: IR, max_nodes: int, include_weights: bool) -> Drawing:
    """Draw the first ``max_nodes`` nodes of a graph; a longer one ends in a note.

    Raises:
        ValueError: ``max_nodes`` is negative.
    """
    if max_nodes < 0:
        raise ValueError(f"max_nodes must be >= 0, found {max_nodes}")
    drawing = Drawing()

    def add_input(tensor: TensorMeta) -> None:
        lines = (f"Input: {tensor.name}", shape_text(tensor.shape))
        drawing.tensors[tensor.name] = drawing.box("input", tensor.name, *lines)

    for tensor in ir.graph_inputs:
        add_input(tensor)
    weights = set(ir.weight_name_mapping)
    for node in ir.nodes[:max_nodes]:
        drawing.node(node, weights, include_weights)
    hidden = len(ir.nodes) - max_nodes
    more = None
    if hidden > 0:
        more = drawing.box("more", "", f"… {hidden} more nodes …")
        last = ir.nodes[:max_nodes][-1:]
        for box in sorted({drawing.tensors[t.name] for node in last for t in node.outputs}):
            drawing.items.append(Arrow(box, more))
    for index, tensor in enumerate(ir.graph_outputs):
        target = drawing.box("output", str(index), "Output", shape_text(tensor.shape))
        source = drawing.tensors.get(tensor.name, more)
        if source is not None:
            drawing.items.append(Arrow(source, target))
    return drawing
