"""Runs an IR on fake tensors, to find what in-place nodes write to and to derive shapes anew.

Fake tensors have no data but share storage exactly as real ones do, views and operators that return
their input unchanged included, so a write is traced to its buffer without a table of operators.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator
from contextlib import contextmanager

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from .attrs import dtype_from_name, dtype_name
from .errors import TorchIRError, ValidationError
from .ir import IR, IRNode, TensorMeta
from .plan import Plan, Registers, Step, make_plan, result_tensors

__all__ = ["check_shapes", "placeholders_at_risk", "placeholders_written", "shared_registers"]


def _placeholders(ir: IR) -> dict[str, TensorMeta]:
    """Describe every tensor that is there before the first node."""
    by_key = {weight.name: weight for weight in ir.weights}
    for name, value in ir.constants.items():
        by_key[name] = TensorMeta(name, tuple(value.shape), dtype_name(value.dtype))
    found = {tensor.name: tensor for tensor in ir.graph_inputs}
    for placeholder, key in ir.weight_name_mapping.items():
        if key in by_key:
            found[placeholder] = by_key[key]
    return found


def _fake(meta: TensorMeta) -> torch.Tensor:
    return torch.empty(meta.shape, dtype=dtype_from_name(meta.dtype), device="cpu")


@contextmanager
def _fake_mode() -> Iterator[None]:
    """Run the body on fake tensors; PyTorch does not log tracebacks for refused operands."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with FakeTensorMode(), torch.no_grad():
            yield
    finally:
        logger.setLevel(level)


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _fake_step(step: Step, registers: Registers) -> list[torch.Tensor]:
    """Run one step on fake tensors."""
    if step.opaque:
        # A registered executor is opaque: its outputs are what the IR says they are.
        return [_fake(meta) for meta in step.node.outputs]
    args, kwargs = step.operands(registers)
    try:
        return result_tensors(step.op(*args, **kwargs))
    except TorchIRError:
        raise
    except (DataDependentOutputException, DynamicOutputShapeException):
        # The operator looks at values on its way to a result of fixed shape; such a result is new.
        return [_fake(meta) for meta in step.node.outputs]
    except Exception as error:
        reason = str(error).splitlines() or [type(error).__name__]
        raise ValidationError(
            f"node {step.node.name!r} ({step.node.op_type}): the operator refuses these operands: "
            f"{reason[0]}"
        ) from error


def _store(step: Step, results: list[torch.Tensor], registers: Registers) -> None:
    for register, value in zip(step.outputs, results, strict=False):
        registers[register] = value


def _start(
    ir: IR, plan: Plan, chosen: Container[str] | None = None
) -> tuple[Registers, dict[str, torch.Tensor]]:
    """Return registers that hold a fake tensor for each placeholder, or each chosen one, and these
    by name.
    """
    fakes = {
        name: _fake(meta)
        for name, meta in _placeholders(ir).items()
        if chosen is None or name in chosen
    }
    # Tied weights are one tensor: a write through either name reaches both.
    first: dict[str, str] = {}
    for placeholder, key in ir.weight_name_mapping.items():
        root = ir.tied_weights.get(key, key)
        if placeholder in fakes and root != key and root in first:
            fakes[placeholder] = fakes[first[root]]
        first.setdefault(key, placeholder)
    registers: Registers = [None] * len(plan.registers)
    for name, fake in fakes.items():
        registers[plan.registers[name]] = fake
    return registers, fakes


def _returned_operands(plan: Plan, step: Step) -> list[int]:
    """Return the registers of the operands that an undeclared view or the operand itself is
    returned of, found by running the step alone.
    """
    registers: Registers = [None] * len(plan.registers)
    fakes = {plan.registers[tensor.name]: tensor for tensor in step.node.inputs}
    with _fake_mode():
        for register, tensor in fakes.items():
            registers[register] = _fake(tensor)
        try:
            returned = {_storage(result) for result in _fake_step(step, registers)}
        except ValidationError:
            # Executing it will say what is wrong; until then anything may be.
            return list(fakes)
        return [register for register in fakes if _storage(registers[register]) in returned]


def shared_registers(plan: Plan, step: Step, known: dict[str, list[int]]) -> list[int]:
    """Return the registers of the operands that the results of a step may share memory with.

    Args:
        known: what was found for steps with the same operands, by position; grows.
    """
    if step.schema is None:
        # A getitem hands its operand on, and so may a registered executor.
        return step.reads()
    if step.schema.viewed or not step.schema.may_return_operands:
        return step.registers_of(step.schema.viewed)
    inputs = [plan.registers[tensor.name] for tensor in step.node.inputs]
    described = [(tensor.shape, tensor.dtype) for tensor in step.node.inputs]
    key = f"{step.node.op_type} {described} {[inputs.index(i) for i in inputs]} {step.node.attrs}"
    if key not in known:
        found = _returned_operands(plan, step)
        known[key] = [inputs.index(register) for register in found]
    return [inputs[position] for position in known[key]]


def _behind_writes(plan: Plan) -> tuple[list[int], set[int]]:
    """Return the steps that hand memory on to the target of an in-place step, in order, and the
    registers that such memory passes through.
    """
    steps: list[int] = []
    registers: set[int] = set()
    known: dict[str, list[int]] = {}
    for index in range(len(plan.steps) - 1, -1, -1):
        step = plan.steps[index]
        if not registers.isdisjoint(step.outputs):
            shared = shared_registers(plan, step, known)
            if shared:
                steps.append(index)
                registers.update(shared)
        registers.update(step.written)
    return steps[::-1], registers


def _root(ir: IR, placeholder: str) -> str:
    key = ir.weight_name_mapping.get(placeholder, placeholder)
    return ir.tied_weights.get(key, key)


def placeholders_at_risk(ir: IR, plan: Plan) -> set[str]:
    """Return the names of the inputs, weights and constants that the graph may write to.

    Whether an operator such as reshape returns a view or a copy can depend on the strides of what
    it is given, which the IR does not fix: one that may return a view counts as one here.
    """
    return _at_risk(ir, plan)[1]


def _at_risk(ir: IR, plan: Plan) -> tuple[list[int], set[str]]:
    """Return `_behind_writes` with names of placeholders for registers."""
    if not any(step.written for step in plan.steps):
        return [], set()
    steps, registers = _behind_writes(plan)
    names = [tensor.name for tensor in ir.graph_inputs] + list(ir.weight_name_mapping)
    roots = {_root(ir, name) for name in names if plan.registers[name] in registers}
    return steps, {name for name in names if _root(ir, name) in roots}


def placeholders_written(ir: IR, plan: Plan | None = None) -> dict[int, set[str]]:
    """Return node index -> names of the inputs, weights and constants that the node writes to.

    Only the steps through which the memory of a placeholder can reach an in-place operator are
    run, so this costs nothing for a graph without any. All placeholders count as contiguous.

    Raises:
        ValidationError: an operator refuses its operands' shapes or dtypes.
    """
    plan = plan or make_plan(ir)
    steps, at_risk = _at_risk(ir, plan)
    if not at_risk:
        return {}
    wanted = set(steps)
    written: dict[int, set[str]] = {}
    with _fake_mode():
        registers, fakes = _start(ir, plan, at_risk)
        owners: dict[int, set[str]] = {}
        for name, fake in fakes.items():
            owners.setdefault(_storage(fake), set()).add(name)
        for index, step in enumerate(plan.steps):
            for register in step.written:
                target = registers[register]
                names = owners.get(_storage(target)) if target is not None else None
                if names:
                    written.setdefault(index, set()).update(names)
            if index in wanted:
                for tensor in step.node.inputs:
                    register = plan.registers[tensor.name]
                    if registers[register] is None:
                        # Not made of a placeholder: any memory of its own will do.
                        registers[register] = _fake(tensor)
                _store(step, _fake_step(step, registers), registers)
    return written


def check_shapes(ir: IR) -> None:
    """Derive every node's output shapes and dtypes anew and compare them with what the IR says.

    The few operators that must see values to do so are taken at the IR's word.

    Raises:
        ValidationError: they differ, or an operator refuses its operands; the message names the
            node.
    """
    plan = make_plan(ir)
    with _fake_mode():
        registers, _ = _start(ir, plan)
        for step in plan.steps:
            results = _fake_step(step, registers)
            _compare(step.node, results)
            _store(step, results, registers)


def _compare(node: IRNode, results: list[torch.Tensor]) -> None:
    if len(results) != len(node.outputs):
        raise ValidationError(
            f"node {node.name!r} ({node.op_type}): returns {len(results)} tensors, but the IR "
            f"lists {len(node.outputs)} outputs"
        )
    for meta, value in zip(node.outputs, results, strict=True):
        shape, dtype = tuple(value.shape), dtype_name(value.dtype)
        if shape != tuple(meta.shape) or dtype != meta.dtype:
            raise ValidationError(
                f"node {node.name!r} ({node.op_type}): output {meta.name!r} is {meta.dtype} "
                f"{list(meta.shape)} in the IR, but the operator gives {dtype} {list(shape)}"
            )
