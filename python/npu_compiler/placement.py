"""Concatenation without copies: which values can be computed right where a cat or stack wants them.

A part of a concatenation gets a slot: its place in the result. Kernels that can write any strides
then write there, and the cat has nothing left to do. Of concatenations that begin alike (every
layer of a DenseNet block joins all that came before) the later one holds the earlier.
"""

from __future__ import annotations

from dataclasses import dataclass

from npu_compiler.graph import IRGraph, Node, Value
from npu_compiler.view import View


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in ``whole``: ``length`` indices from ``start`` of dimension ``dim``, which is gone
    where ``stacked``. ``shape``: the part's, where it has fewer dimensions.
    """

    whole: Value
    dim: int
    start: int
    length: int
    stacked: bool = False
    shape: tuple[int, ...] | None = None

    def of(self, view: View) -> View:
        """The slot in the view of ``whole``."""
        if self.stacked:
            return view.drop(self.dim, self.start)
        place = view.slice(self.dim, self.start, self.length)
        if self.shape is None:
            return place
        # Only dimensions of size 1 come or go, so there always are strides.
        return place.reshape(self.shape) or place


def slots_of(node: Node) -> list[tuple[Value, Slot]] | None:
    """The parts of a concatenation and their slots, in order; None for another node."""
    # Imported here: the registry of operators imports lowering, which imports this module.
    from npu_compiler.ops.combine import concatenation

    found = concatenation(node)
    if found is None:
        return None
    parts, shapes, dim, stacked = found
    slots, start = [], 0
    for part, shape in zip(parts, shapes, strict=True):
        length = 1 if stacked else shape[dim]
        own = None if stacked or shape == part.shape else part.shape
        slots.append((part, Slot(node.output, dim, start, length, stacked, own)))
        start += length
    return slots


def plan_slots(graph: IRGraph) -> dict[Value, Slot]:
    """A slot for every value that may be computed in place of its copy in a concatenation."""
    outputs = set(graph.outputs)
    taken: dict[Value, Slot] = {}
    for node in reversed(graph.nodes):
        parts = slots_of(node)
        if parts is None or len(parts) < 2:
            continue
        whole = node.output
        inside = _inside(parts, taken)
        if inside is not None and whole not in taken and whole not in outputs:
            taken[whole] = inside
            continue
        for part, slot in parts:
            single = sum(other is part for other, _ in parts) == 1
            fits = part.kind == "node" and part.dtype == whole.dtype and part.numel > 0
            if single and fits and part not in outputs:
                taken.setdefault(part, slot)
    return taken


def _inside(parts: list[tuple[Value, Slot]], taken: dict[Value, Slot]) -> Slot | None:
    """The slot of a whole concatenation whose parts lie side by side in a later one, or None."""
    found = [taken.get(part) for part, _ in parts]
    first = found[0]
    if first is None or first.stacked or first.shape is not None:
        return None
    at = first.start
    for slot, (_, own) in zip(found, parts, strict=True):
        if (
            slot is None
            or own.stacked
            or own.shape is not None
            or (slot.whole, slot.dim) != (first.whole, own.dim)
        ):
            return None
        if slot.start != at or slot.length != own.length:
            return None
        at += slot.length
    return Slot(first.whole, first.dim, first.start, at - first.start)
