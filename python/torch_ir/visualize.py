"""Draws an IR as Mermaid text: the graph as a flowchart, the operators as a pie chart."""

from __future__ import annotations

from .drawing import Box, draw, op_distribution, short_op_name
from .ir import IR

__all__ = ["generate_op_distribution_pie", "ir_to_mermaid"]

_BRACKETS = {"input": ("[/", "/]"), "w": ("[/", "/]"), "output": ("[\\", "/]")}


def _text(text: str) -> str:
    """Escape what would end a quoted Mermaid text."""
    return text.replace("&", "&amp;").replace('"', "#quot;").replace("<", "&lt;")


def ir_to_mermaid(ir: IR, max_nodes: int = 30, include_weights: bool = True) -> str:
    """Draw the graph as a Mermaid flowchart.

    Args:
        max_nodes: how many nodes to draw; a longer graph ends in a note that says how many are left
            out.
        include_weights: draw weights and constants, with dotted arrows.

    Raises:
        ValueError: ``max_nodes`` is negative.
    """
    lines = ["flowchart TD"]
    for item in draw(ir, max_nodes, include_weights).items:
        if isinstance(item, Box):
            left, right = _BRACKETS.get(item.kind, ("[", "]"))
            text = "<br/>".join(map(_text, item.lines))
            lines.append(f'    {item.identifier}{left}"{text}"{right}')
        else:
            arrow = "-.->" if item.dotted else "-->"
            middle = f'{arrow}|"{item.label}"|' if item.label else arrow
            lines.append(f"    {item.source} {middle} {item.target}")
    return "\n".join(lines)


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
