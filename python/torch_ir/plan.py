"""The execution plan of an IR: operators resolved, operands in numbered registers, last uses known.

Everything that a run needs to know is worked out once, when the plan is made; a run only fills
argument lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from .binding import Slot, bind_arguments
from .errors import ValidationError
from .ir import GETITEM, IR, IRNode
from .registry import custom_executor
from .schema import ArgKind, OpSchema, is_known_op, op_schema

__all__ = ["Plan", "Step", "make_plan", "result_tensors"]

Registers = list[Any]


@dataclass(slots=True)
class Step:
    """One operator call with its operands' registers.

    ``args`` and ``kwargs`` are templates: ``fills`` says which places take a register,
    ``list_fills`` which take a list of registers (None where a list has no tensor). An ``opaque``
    step runs a registered executor.
    """

    node: IRNode
    schema: OpSchema | None
    op: Callable[..., Any]
    args: list[Any]
    fills: tuple[tuple[int, int], ...]
    list_fills: tuple[tuple[int, tuple[int | None, ...]], ...]
    kwargs: dict[str, Any]
    kwarg_fills: tuple[tuple[str, int], ...]
    outputs: tuple[int, ...]
    frees: tuple[int, ...] = ()
    written: tuple[int, ...] = ()
    opaque: bool = False

    def reads(self) -> list[int]:
        """Return the registers that the call reads, in order."""
        found = [register for _, register in self.fills]
        found += [r for _, items in self.list_fills for r in items if r is not None]
        found += [register for _, register in self.kwarg_fills]
        return found

    def registers_of(self, names: Iterable[str]) -> list[int]:
        """Return the registers of the tensors among the arguments ``names`` of the operator."""
        if self.schema is None:
            return []
        positional = [arg.name for arg in self.schema.args if not arg.kwarg_only]
        by_name: dict[str, Iterable[int | None]] = {}
        by_name.update((positional[position], [register]) for position, register in self.fills)
        by_name.update((positional[position], items) for position, items in self.list_fills)
        by_name.update((key, [register]) for key, register in self.kwarg_fills)
        return [r for name in names for r in by_name.get(name, ()) if r is not None]

    def operands(self, registers: Registers) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of the call, tensors taken from the registers."""
        args = self.args.copy()
        for position, register in self.fills:
            args[position] = registers[register]
        for position, items in self.list_fills:
            args[position] = [None if r is None else registers[r] for r in items]
        if not self.kwarg_fills:
            return args, self.kwargs
        kwargs = self.kwargs.copy()
        for key, register in self.kwarg_fills:
            kwargs[key] = registers[register]
        return args, kwargs


@dataclass(slots=True)
class Plan:
    """Steps in order, and the registers of everything that has a name."""

    steps: list[Step]
    registers: dict[str, int]
    inputs: list[int]
    outputs: list[int]
    used: set[str] = field(default_factory=set)


def result_tensors(result: Any) -> list[torch.Tensor]:
    """Return the tensors among an operator's results, in order; results may be lists themselves."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, (tuple, list)):
        return [tensor for item in result for tensor in result_tensors(item)]
    return []


def _pick(*values: Any) -> Any:
    """Execute a getitem node: its last argument is the index among the others."""
    return values[values[-1]]


def _run_custom(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(inputs: list[torch.Tensor], attrs: dict[str, Any]) -> Any:
        # A copy, so that a registered function cannot change the IR.
        return function(inputs, dict(attrs))

    return call


def _written_registers(schema: OpSchema, node: IRNode, step: Step) -> tuple[int, ...]:
    """Return the registers whose tensors the step writes to."""
    names = schema.written
    if schema.updates_statistics and any(
        node.attrs.get(flag) is True for flag in ("training", "train", "use_input_stats")
    ):
        names = (*names, "running_mean", "running_var")
    return tuple(step.registers_of(names)) if names else ()


def _unknown(inputs: list[torch.Tensor], attrs: dict[str, Any]) -> Any:
    raise ValidationError("an operator that this process does not know cannot be executed")


def _bind(node: IRNode, registers: dict[str, int], allow_unknown: bool) -> Step:
    sources = [registers[tensor.name] for tensor in node.inputs]
    outputs = tuple(registers[tensor.name] for tensor in node.outputs)
    custom = custom_executor(node.op_type)
    opaque = _run_custom(custom) if custom is not None else None
    if opaque is None and allow_unknown and not is_known_op(node.op_type):
        opaque = _unknown
    fills: Any
    if opaque is not None:
        fills = ((0, tuple(sources)),)
        return Step(
            node,
            None,
            opaque,
            [None, node.attrs],
            (),
            fills,
            {},
            (),
            outputs,
            opaque=True,
        )
    if node.op_type == GETITEM:
        fills = tuple(enumerate(sources))
        args = [None] * len(sources) + [node.attrs["index"]]
        return Step(node, None, _pick, args, fills, (), {}, (), outputs)
    schema = op_schema(node.op_type)
    positional, by_keyword = bind_arguments(node.name, schema, len(sources), node.attrs)
    if any(isinstance(value, list) and _has_slots(value) for value in by_keyword.values()):
        raise ValidationError(
            f"node {node.name!r}: {node.op_type} takes a tensor list by keyword, which is not "
            "supported"
        )
    step = Step(
        node=node,
        schema=schema,
        op=schema.op,
        args=[None if isinstance(value, Slot) else value for value in positional],
        fills=tuple(
            (i, sources[value.index])
            for i, value in enumerate(positional)
            if isinstance(value, Slot)
        ),
        list_fills=tuple(
            (i, tuple(sources[v.index] if isinstance(v, Slot) else None for v in value))
            for i, value in enumerate(positional)
            if isinstance(value, list) and schema.args[i].kind is ArgKind.TENSOR_LIST
        ),
        kwargs={k: v for k, v in by_keyword.items() if not isinstance(v, Slot)},
        kwarg_fills=tuple(
            (k, sources[v.index]) for k, v in by_keyword.items() if isinstance(v, Slot)
        ),
        outputs=outputs,
    )
    step.written = _written_registers(schema, node, step)
    return step


def _has_slots(values: list[Any]) -> bool:
    return any(isinstance(value, Slot) for value in values)


def make_plan(ir: IR, allow_unknown: bool = False) -> Plan:
    """Work out the execution plan of a valid IR.

    Args:
        allow_unknown: accept operators that this process cannot execute, as opaque steps.

    Raises:
        ValidationError: an operator is unknown or a node's operands do not fit its schema.
    """
    registers: dict[str, int] = {}
    for tensor in ir.graph_inputs:
        registers.setdefault(tensor.name, len(registers))
    for name in ir.weight_name_mapping:
        registers.setdefault(name, len(registers))
    for node in ir.nodes:
        for tensor in node.outputs:
            registers.setdefault(tensor.name, len(registers))
    steps = [_bind(node, registers, allow_unknown) for node in ir.nodes]
    outputs = [registers[tensor.name] for tensor in ir.graph_outputs]
    _plan_frees(steps, outputs)
    used = {tensor.name for node in ir.nodes for tensor in node.inputs}
    used.update(tensor.name for tensor in ir.graph_outputs)
    return Plan(steps, registers, [registers[t.name] for t in ir.graph_inputs], outputs, used)


def _plan_frees(steps: list[Step], outputs: list[int]) -> None:
    """Note for each step which registers nobody reads afterwards."""
    seen = set(outputs)
    for step in reversed(steps):
        touched = dict.fromkeys(step.outputs)
        touched.update(dict.fromkeys(step.reads()))
        step.frees = tuple(register for register in touched if register not in seen)
        seen.update(touched)
