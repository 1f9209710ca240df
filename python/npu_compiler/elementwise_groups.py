"""Fuses chains of elementwise nodes into groups that become one dispatch each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from npu_compiler.elementwise import (
    Builder,
    ProgramTooLargeError,
    Register,
    number_for,
    register_type,
)
from npu_compiler.elementwise_dispatch import emit_program
from npu_compiler.graph import IRGraph, Node, Value
from npu_compiler.ops import find_op

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

# Results of these dtypes are exact in a float32 register; a result of another dtype must be rounded
# by a store.
_KEPT_EXACT = frozenset({"float32", "bool"})


def is_elementwise(node: Node) -> bool:
    """Whether the node is computed element by element."""
    record = find_op(node.op_type)
    return record is not None and record.emit is not None


def elementwise_groups(graph: IRGraph) -> dict[Node, list[Node]]:
    """For the last node of every group, its nodes in order; other elementwise nodes are inside of
    some group.

    A node joins its reader when that is its only one, nothing else sees the value, both have the
    same shape (so that nothing is computed twice) and the program stays within the kernel's limits.
    An explicit cast to a narrower dtype rounds, so it ends its group.
    """
    users = graph.users()
    outputs = set(graph.outputs)
    groups: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        if not is_elementwise(node):
            continue
        group = [node]
        for value in dict.fromkeys(node.inputs()):
            producer = value.producer
            if producer is None or producer not in groups or value in outputs:
                continue
            if len(users[value]) != 1 or value.shape != node.output.shape or _rounds(producer):
                continue
            candidate = groups[producer] + group
            if _fits(candidate):
                group = candidate
                del groups[producer]
        groups[node] = group
    return groups


def _rounds(node: Node) -> bool:
    """Whether the node is a cast whose rounding a later reader must see."""
    record = find_op(node.op_type)
    if record is None or record.identity is None:
        return False
    return node.output.dtype not in _KEPT_EXACT


def _fits(nodes: list[Node]) -> bool:
    builder, result = build_program(nodes)
    try:
        builder.encode(builder.result_for(result, nodes[-1].output.dtype))
    except ProgramTooLargeError:
        return False
    return True


def build_program(nodes: list[Node]) -> tuple[Builder, Register]:
    """The program of a group; its inputs are the values from outside."""
    builder = Builder()
    registers: dict[Value, Register] = {}

    result = builder.constant(0.0)
    for node in nodes:
        record = find_op(node.op_type)
        if record is None or record.emit is None:
            raise TypeError(f"{node.name} is not elementwise")
        args: dict[str, Any] = {}
        for name, arg in node.args.items():
            args[name] = arg
            if isinstance(arg, Value):
                args[name] = registers[arg] if arg in registers else builder.load(arg)
        common = record.common_dtype(node.args)
        builder.dtype = common or node.output.dtype
        for name in record.promotes:
            arg = args.get(name)
            if isinstance(arg, Register) and common is not None:
                args[name] = builder.result_for(arg, common)
            elif arg is not None and common is not None:
                args[name] = number_for(arg, common)
        result = record.emit(builder, args)
        if not isinstance(result, Register):
            result = builder.constant(result, register_type(node.output.dtype))
        registers[node.output] = builder.result_for(result, node.output.dtype)
    return builder, registers[nodes[-1].output]


def lower_group(lowering: Lowering, nodes: list[Node]) -> None:
    """One elementwise dispatch (and perhaps a fill of the padding) for the group."""
    builder, result = build_program(nodes)
    last = nodes[-1]
    outside = [h for h in builder.inputs if isinstance(h, Value)]
    out = lowering.define(last.output, image=lowering.is_image(*outside), strided=True)
    name = "+".join(origin for node in nodes for origin in node.origins)
    emit_program(lowering, out, builder, result, last, name=name)
