"""Draws an IR as Mermaid text: the graph as a flowchart, the operators as a pie chart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from .ir import GETITEM, IR, IRNode, TensorMeta

__all__ = ["generate_op_distribution_pie", "ir_to_mermaid", "op_distribution", "short_op_name"]

_NOT_ID = re.compile(r"\W")


def short_op_name(op_type: str) -> str:
    """Return an operator's name as people say it: ``linear``, ``add.Tensor``, ``getitem``."""
    if op_type == GETITEM:
        return "getitem"
    return op_type.removeprefix("aten.").removesuffix(".default")


def op_distribution(ir: IR) -> dict[str, int]:
    """Return how often each operator occurs, the most frequent first."""
    return dict(Counter(node.op_type for node in ir.nodes).most_common())


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _text(text: str) -> str:
    """Escape what would end a quoted Mermaid text."""
    return text.replace("&", "&amp;").replace('"', "#quot;").replace("<", "&lt;")


class _Drawing:
    """The lines of a flowchart, and the id of the box that stands for each tensor."""

    def __init__(self, include_weights: bool) -> None:
        self.lines = ["flowchart TD"]
        self.include_weights = include_weights
        self.boxes: dict[str, str] = {}
        self.ids: set[str] = set()

    def box(self, prefix: str, name: str, label: str, shape: str, brackets: str) -> str:
        """Add a box, with an id that no other box has."""
        wanted = identifier = f"{prefix}_{_NOT_ID.sub('_', name)}"
        count = 0
        while identifier in self.ids:
            count += 1
            identifier = f"{wanted}_{count}"
        self.ids.add(identifier)
        left, right = brackets.split(" ")
        self.lines.append(f'    {identifier}{left}"{_text(label)}<br/>{shape}"{right}')
        return identifier

    def edge(self, source: str, target: str, label: str | None, arrow: str = "-->") -> None:
        """Add an arrow between two boxes."""
        middle = f'{arrow}|"{label}"|' if label else arrow
        self.lines.append(f"    {source} {middle} {target}")

    def node(self, node: IRNode, weights: set[str]) -> None:
        """Add a node and the arrows that lead to it."""
        shape = ", ".join(_shape(tensor.shape) for tensor in node.outputs) or "no tensor"
        target = self.box("op", node.name, short_op_name(node.op_type), shape, "[ ]")
        for tensor in node.inputs:
            self.operand(tensor, target, weights)
        self.boxes.update((tensor.name, target) for tensor in node.outputs)

    def operand(self, tensor: TensorMeta, target: str, weights: set[str]) -> None:
        """Add the arrow for one input of a node, and the weight's box at its first use."""
        shape = _shape(tensor.shape)
        if tensor.name in weights:
            if not self.include_weights:
                return
            if tensor.name not in self.boxes:
                self.boxes[tensor.name] = self.box("w", tensor.name, tensor.name, shape, "[/ /]")
            self.edge(self.boxes[tensor.name], target, shape, "-.->")
        elif tensor.name in self.boxes:
            self.edge(self.boxes[tensor.name], target, shape)


def ir_to_mermaid(ir: IR, max_nodes: int = 30, include_weights: bool = True) -> str:
    """Draw the graph as a Mermaid flowchart.

    Args:
        max_nodes: how many nodes to draw; a longer graph ends in a note that says how many are left
            out.
        include_weights: draw weights and constants, with dotted arrows.

    Raises:
        ValueError: ``max_nodes`` is negative.
    """
    if max_nodes < 0:
        raise ValueError(f"max_nodes must be >= 0, found {max_nodes}")
    drawing = _Drawing(include_weights)
    for tensor in ir.graph_inputs:
        label = f"Input: {tensor.name}"
        box = drawing.box("input", tensor.name, label, _shape(tensor.shape), "[/ /]")
        drawing.boxes[tensor.name] = box
    weights = set(ir.weight_name_mapping)
    for node in ir.nodes[:max_nodes]:
        drawing.node(node, weights)
    hidden = len(ir.nodes) - max_nodes
    if hidden > 0:
        drawing.lines.append(f'    more["… {hidden} more nodes …"]')
        drawing.ids.add("more")
        last = {drawing.boxes[t.name] for n in ir.nodes[:max_nodes][-1:] for t in n.outputs}
        for box in sorted(last):
            drawing.edge(box, "more", None)
    for index, tensor in enumerate(ir.graph_outputs):
        target = drawing.box("output", str(index), "Output", _shape(tensor.shape), "[\\ /]")
        source = drawing.boxes.get(tensor.name, "more" if hidden > 0 else None)
        if source is not None:
            drawing.edge(source, target, None)
    return "\n".join(drawing.lines)


def generate_op_distribution_pie(ir: IR, top_n: int = 10) -> str:
    """Draw how often each operator occurs as a Mermaid pie chart.

    Args:
        top_n: how many operators get a slice of their own; the rest share one called "other".

    Raises:
        ValueError: ``top_n`` is not positive.
    """
    if top_n < 1:
        raise ValueError(f"top_n must be >= 1, found {top_n}")
    counts = list(op_distribution(ir).items())
    lines = ["pie showData", "    title Operator distribution"]
    lines += [f'    "{_text(short_op_name(op))}" : {count}' for op, count in counts[:top_n]]
    rest = sum(count for _, count in counts[top_n:])
    if rest:
        lines.append(f'    "other" : {rest}')
    return "\n".join(lines)
