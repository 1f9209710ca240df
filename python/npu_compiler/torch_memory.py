"""Where values lie in PyTorch's memory: which results are views of an operand and which are copies,
and which writes in place PyTorch would do to elements that share memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from npu_compiler.graph import GETITEM, IRGraph, Node, Value
from npu_compiler.ops import find_op, functional_name
from npu_compiler.ops.arguments import Refusal
from npu_compiler.ops.record import plain_view
from npu_compiler.view import View, contiguous_strides

# Identities that make new memory although they change nothing.
COPIES = frozenset({"aten.clone.default", "aten.lift_fresh_copy.default", "aten._to_copy.default"})
# Identities that copy where the memory format that they ask for is another than their operand's.
FORMATTING = ("aten.contiguous.", "aten.to.")


class TorchMemory:
    """Views of PyTorch's memory, by value. A value that is no view of another lies as the IR says,
    row-major where it says nothing.
    """

    def __init__(self) -> None:
        self._views: dict[Value, View] = {}

    def view(self, value: Value) -> View:
        """The memory of ``value``, its strides those that PyTorch has."""
        if value not in self._views:
            view = plain_view(value)
            self._views[value] = (
                view if value.strides is None else replace(view, strides=value.strides)
            )
        return self._views[value]

    def alias(self, value: Value, source: Value) -> None:
        """Say that ``value`` is the very memory of ``source``."""
        self._views[value] = self.view(source)

    def is_view(self, node: Node, source: Value) -> bool:
        """Whether the node's results are views of ``source``, its first operand, (or ``source``
        itself), and not new memory; notes where they lie.
        """
        record = find_op(node.op_type)
        if record is None:
            return False
        if record.view is not None:
            try:
                views = record.view(node, self.view(source))
            except Refusal:
                return False
            if views is None or [v.shape for v in views] != [o.shape for o in node.outputs]:
                return False
            self._views |= zip(node.outputs, views, strict=True)
            return True
        if record.identity is None or node.op_type in COPIES or not record.identity(node):
            return False
        if node.args.get("copy") is True:
            return False
        if node.op_type.startswith(FORMATTING):
            wanted = node.output.strides or contiguous_strides(node.output.shape)
            if not _same_layout(source.shape, self.view(source).strides, wanted):
                return False
        self.alias(node.output, source)
        return True


def _same_layout(shape: Sequence[int], first: Sequence[int], second: Sequence[int]) -> bool:
    pairs = zip(shape, first, second, strict=True)
    return 0 in shape or all(a == b for n, a, b in pairs if n > 1)


def _overlaps(view: View) -> bool:
    """Whether two elements of the view may lie in one place. (Sizes and strides that fit into each
    other are certain not to; PyTorch itself makes no others without ``as_strided``.)
    """
    if 0 in view.shape:
        return False
    reach = 0
    for stride, n in sorted((s, n) for n, s in zip(view.shape, view.strides, strict=True) if n > 1):
        if stride <= reach:
            return True
        reach += stride * (n - 1)
    return False


def overlapping_writes(graph: IRGraph) -> dict[Node, str]:
    """The nodes that write in place to elements that share memory (a row of ``unfold``'s windows),
    and why the NPU cannot run them: which of the values remains depends on the order.
    """
    if not any(functional_name(node.op_type) is not None for node in graph.nodes):
        return {}
    memory = TorchMemory()
    found: dict[Node, str] = {}
    for node in graph.nodes:
        if node.op_type == GETITEM:
            memory.alias(node.output, node.args["self"][node.args["index"]])
            continue
        target = next(node.inputs(), None)
        functional = functional_name(node.op_type)
        if functional is None or find_op(node.op_type) is None or target is None:
            if target is not None and node.name not in graph.unbound:
                memory.is_view(node, target)
            continue
        view = memory.view(target)
        if _overlaps(view):
            found[node] = (
                f"it writes in place to {target.name!r} of shape {list(view.shape)} and strides "
                f"{list(view.strides)}, whose elements share memory; write to a copy (clone())"
            )
        for output in node.outputs:
            memory.alias(output, target)
    return found
