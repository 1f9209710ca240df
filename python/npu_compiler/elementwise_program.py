"""The program of a group of elementwise nodes: PyTorch's type promotion and casts made explicit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from npu_compiler.elementwise import Builder, Register, number_for, register_type
from npu_compiler.graph import Node, Value
from npu_compiler.ops import find_op
from npu_compiler.ops.record import OpRecord


@dataclass(slots=True)
class GroupProgram:
    """A builder and the register of every node's result; ``builder.inputs`` come from outside.
    ``seen``: the registers that readers of the results take, where a cast has rounded.
    """

    builder: Builder
    results: dict[Value, Register]
    seen: dict[Value, Register]


def is_elementwise(node: Node) -> bool:
    """Whether the node is computed element by element."""
    record = find_op(node.op_type)
    return record is not None and record.emit is not None


def build_program(
    nodes: Sequence[Node],
    builder: Builder | None = None,
    known: Mapping[Value, Register] | None = None,
) -> GroupProgram:
    """The program of a group, whose nodes come in order; it continues that of ``builder``, where
    ``known`` says in which registers values are.
    """
    builder = builder or Builder()
    results: dict[Value, Register] = {}
    seen: dict[Value, Register] = dict(known or {})
    for node in nodes:
        record = find_op(node.op_type)
        if record is None or record.emit is None:
            raise TypeError(f"{node.name} is not elementwise")
        result = record.emit(builder, _arguments(builder, record, node, seen))
        dtype = node.output.dtype
        if not isinstance(result, Register):
            result = builder.constant(result, register_type(dtype))
        result = builder.result_for(result, dtype)
        results[node.output] = result
        is_cast = record.identity is not None and next(node.inputs()).dtype != dtype
        seen[node.output] = builder.rounded(result, dtype) if is_cast else result
    return GroupProgram(builder, results, seen)


def _arguments(
    builder: Builder, record: OpRecord, node: Node, seen: dict[Value, Register]
) -> dict[str, Any]:
    """The node's arguments with tensors as registers, promoted as its record says."""
    args: dict[str, Any] = {}
    for name, arg in node.args.items():
        args[name] = arg
        if isinstance(arg, Value):
            args[name] = seen[arg] if arg in seen else builder.load(arg)
    common = record.common_dtype(node.args)
    builder.dtype = common or node.output.dtype
    for name in record.promotes if common is not None else ():
        arg = args.get(name)
        if isinstance(arg, Register):
            args[name] = builder.result_for(arg, builder.dtype)
        elif arg is not None:
            args[name] = number_for(arg, builder.dtype)
    return args
