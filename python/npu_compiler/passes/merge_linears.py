"""Merges linear layers that share an input (queries, keys and values; a gate and what it gates)
into one matrix product.
"""

from __future__ import annotations

from npu_compiler.graph import Epilogue, IRGraph, Node, Value
from npu_compiler.ops import find_op
from npu_compiler.ops.merged_linear import MERGED_LINEAR
from npu_compiler.placement import slots_of

_LINEAR = "aten.linear.default"


def merge_linears(graph: IRGraph) -> None:
    """Replace every group of linear layers of one input, all with a bias or all without.

    A layer stays alone where its result is returned, where its weight is read elsewhere too (it
    would be stored twice), where it is computed right in a concatenation, or where its input is a
    parameter. A group stays apart where more than
    one of its members could take what follows into its own epilogue, since a merged product cannot.
    """
    users = graph.users()
    groups: dict[tuple[Value, bool], list[Node]] = {}
    returned = set(graph.outputs)
    for node in graph.nodes:
        if node.op_type == _LINEAR and _mergeable(node, users, returned):
            key = (node.tensor("input"), node.args["bias"] is None)
            groups.setdefault(key, []).append(node)
    merged: dict[Node, Node | None] = {}
    for group in groups.values():
        epilogues = sum(_has_epilogue(node, users) for node in group)
        if len(group) > 1 and epilogues <= 1:
            merged |= dict.fromkeys(group)
            merged[group[0]] = _merge(group)
    nodes = (merged.get(node, node) for node in graph.nodes)
    graph.nodes = [node for node in nodes if node is not None]


def _mergeable(node: Node, users: dict[Value, list[Node]], returned: set[Value]) -> bool:
    weight, bias = node.args["weight"], node.args["bias"]
    parameters = [weight] if bias is None else [weight, bias]
    return (
        all(isinstance(p, Value) and p.kind == "weight" for p in parameters)
        and len(users[weight]) == 1
        and node.epilogue == Epilogue()
        and node.output not in returned
        and not any(slots_of(reader) for reader in users.get(node.output, ()))
        and not node.tensor("input").is_parameter
        and 0 not in node.output.shape
        and weight.shape[1] > 0
    )


def _has_epilogue(node: Node, users: dict[Value, list[Node]]) -> bool:
    """Whether the one reader could become part of the product's kernel."""
    readers = users.get(node.output, [])
    if len(readers) != 1:
        return False
    record = find_op(readers[0].op_type)
    if record is None:
        return False
    clamps = record.clamp is not None and record.clamp(readers[0].args) is not None
    return clamps or readers[0].op_type == "aten.add.Tensor"


def _merge(group: list[Node]) -> Node:
    first = group[0]
    biases = [node.args["bias"] for node in group if node.args["bias"] is not None]
    merged = Node(
        first.name,
        MERGED_LINEAR,
        {
            "input": first.tensor("input"),
            "weights": [node.args["weight"] for node in group],
            "biases": biases,
        },
        [node.output for node in group],
        first.source,
        tuple(origin for node in group for origin in node.origins),
    )
    for index, value in enumerate(merged.outputs):
        value.producer, value.index = merged, index
    return merged
