"""Reductions take elementwise groups into their dispatch: those that only make what is reduced, and
those that only work on the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from npu_compiler.elementwise_group import Group, lower_elementwise
from npu_compiler.errors import CompilerError
from npu_compiler.graph import IRGraph, Node, Value
from npu_compiler.ops import find_op
from npu_compiler.ops.map_reduction import MapReduction, map_reduction
from npu_compiler.reduction_dispatch import emit_map_reduction

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

# Where a reduction takes in only what works on its result. The plain reduce kernel streams rows
# faster than register programs do, and a dispatch costs about what 2**14 elements cost; of columns,
# map_reduce is the faster one unless they are tall. The cpu device, 2 cores, one dispatch against
# two: 16 x 1024 rows 1.1 to 1.2 times as fast, 64 x 1024 to 1024 x 1024 rows 0.86 to 0.98;
# columns of 8 to 64 elements 1.0 to 1.7, of 1024 elements 1.2 to 1.9 up to 256 columns and 0.97 at
# 1024, of 16384 elements 0.62.
_SMALL = 2**14
_SHORT_COLUMN = 512
_COLUMN, _COLUMNS_ELEMENTS = 1024, 2**18


@dataclass(eq=False, slots=True)
class ReductionGroup(Group):
    """A reduction, the groups that make its operands and the one that works on its result;
    ``nodes`` are all of their nodes in order.
    """

    reduction: Node = field(kw_only=True)
    before: list[Group] = field(kw_only=True)
    after: Group | None = field(kw_only=True)


def with_reductions(
    graph: IRGraph, groups: Sequence[Group], users: Mapping[Value, list[Node]]
) -> list[Group]:
    """``groups`` with those that reductions take in replaced by ReductionGroups.

    Nothing between two members can depend on one and be needed by another: what a reduction takes
    in has no other way to it.
    """
    group_of = {node: group for group in groups for node in group}
    outputs = set(graph.outputs)
    position = {node: at for at, node in enumerate(graph.nodes)}
    taken: dict[Group, Group] = {}
    for node in graph.nodes:
        if node in group_of or len(node.outputs) != 1 or (found := map_reduction(node)) is None:
            continue
        before = []
        for value in dict.fromkeys(node.inputs()):
            group = None if value.producer is None else group_of.get(value.producer)
            if (
                group is not None
                and group not in taken
                and group.outputs == [value]
                and users.get(value) == [node]
                and value not in outputs
                and value.shape == found.shape
            ):
                before.append(group)
        after = _after(node, group_of, users)
        if after in taken:
            after = None
        members = [*before, *([] if after is None else [after])]
        if not members:
            continue
        nodes = sorted([node, *(n for group in members for n in group)], key=position.__getitem__)
        own = [node.output] if after is None or node.output in outputs else []
        results = [*own, *([] if after is None else after.outputs)]
        whole = ReductionGroup(nodes, results, reduction=node, before=before, after=after)
        taken |= dict.fromkeys(members, whole)
    kept = [group for group in groups if group not in taken]
    return [*kept, *dict.fromkeys(taken.values())]


def _after(
    node: Node, group_of: Mapping[Node, Group], users: Mapping[Value, list[Node]]
) -> Group | None:
    """The one group that reads the node's result, where it computes values of that shape."""
    readers = users.get(node.output, [])
    if not readers or readers[0] not in group_of:
        return None
    group = group_of[readers[0]]
    alike = all(value.shape == node.output.shape for value in group.outputs)
    return group if alike and all(group_of.get(reader) is group for reader in readers) else None


def _repays(lowering: Lowering, node: Node, mapped: MapReduction) -> bool:
    """Whether map_reduce without elementwise nodes before it is no slower than the plain reduce
    kernel and the dispatch behind it that it saves.
    """
    elements, count = prod(mapped.shape), prod(mapped.shape[d] for d in mapped.dims)
    if elements <= _SMALL:
        return True
    x = lowering.read(node.tensor("self"))
    if any(abs(x.strides[d]) == 1 and x.shape[d] > 1 for d in mapped.dims):
        return False
    return count <= _SHORT_COLUMN or (count <= _COLUMN and elements <= _COLUMNS_ELEMENTS)


def lower_reduction(lowering: Lowering, group: ReductionGroup) -> None:
    """One dispatch (and perhaps fills of the padding); one for each part where together they are
    more than the kernel takes, or strides forbid it.
    """
    mapped = map_reduction(group.reduction)
    before = [node for part in group.before for node in part]
    after = [] if group.after is None else group.after.nodes
    if (
        mapped is not None
        and (before or _repays(lowering, group.reduction, mapped))
        and emit_map_reduction(
            lowering, group.reduction, mapped, before, after, group.outputs, name=group.name
        )
    ):
        return
    for part in group.before:
        lower_elementwise(lowering, part)
    record = find_op(group.reduction.op_type)
    if record is None or record.lower is None:
        raise CompilerError(f"{group.reduction.name} has no lowering")
    record.lower(lowering, group.reduction)
    if group.after is not None:
        lower_elementwise(lowering, group.after)
