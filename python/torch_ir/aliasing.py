"""Runs an IR on fake tensors, to find what in-place nodes write to and to derive shapes anew.

Fake tensors have no data but share storage exactly as real ones do, views and operators that return
their input unchanged included, so a write is traced to its buffer without a table of operators.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from .attrs import dtype_from_name, dtype_name
from .errors import TorchIRError, ValidationError
from .ir import IR, TensorMeta
from .plan import Plan, Registers, Step, make_plan, result_tensors

__all__ = ["check_shapes", "placeholders_written"]


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


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _fake_run(ir: IR, plan: Plan, registers: Registers) -> Iterator[tuple[int, Step, list[Any]]]:
    """Run the plan on fake tensors, yielding each step with its results before they are stored."""
    for index, step in enumerate(plan.steps):
        if step.opaque:
            # A registered executor is opaque: its outputs are what the IR says they are.
            results: list[Any] = [_fake(meta) for meta in step.node.outputs]
        else:
            args, kwargs = step.operands(registers)
            try:
                returned = step.op(*args, **kwargs)
            except TorchIRError:
                raise
            except Exception as error:
                raise ValidationError(
                    f"node {step.node.name!r} ({step.node.op_type}): the operator refuses these "
                    f"operands: {str(error).splitlines()[0]}"
                ) from error
            results = list(result_tensors(returned))
        yield index, step, results
        for register, value in zip(step.outputs, results, strict=False):
            registers[register] = value


def _start(ir: IR, plan: Plan) -> tuple[Registers, dict[str, torch.Tensor]]:
    fakes = {name: _fake(meta) for name, meta in _placeholders(ir).items()}
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


def placeholders_written(ir: IR, plan: Plan | None = None) -> dict[int, set[str]]:
    """Return node index -> names of the inputs, weights and constants that the node writes to.

    Costs nothing for a graph without in-place operators.

    Raises:
        ValidationError: an operator refuses its operands' shapes or dtypes.
    """
    plan = plan or make_plan(ir)
    if not any(step.written for step in plan.steps):
        return {}
    written: dict[int, set[str]] = {}
    with FakeTensorMode(), torch.no_grad():
        registers, fakes = _start(ir, plan)
        owners: dict[int, set[str]] = {}
        for name, fake in fakes.items():
            owners.setdefault(_storage(fake), set()).add(name)
        for index, step, _ in _fake_run(ir, plan, registers):
            for register in step.written:
                names = owners.get(_storage(registers[register]))
                if names:
                    written.setdefault(index, set()).update(names)
    return written


def check_shapes(ir: IR) -> None:
    """Derive every node's output shapes and dtypes anew and compare them with what the IR says.

    Raises:
        ValidationError: they differ, or an operator refuses its operands; the message names the
            node.
    """
    plan = make_plan(ir)
    with FakeTensorMode(), torch.no_grad():
        registers, _ = _start(ir, plan)
        for _, step, results in _fake_run(ir, plan, registers):
            node = step.node
            if len(results) != len(node.outputs):
                raise ValidationError(
                    f"node {node.name!r} ({node.op_type}): returns {len(results)} tensors, but the "
                    f"IR lists {len(node.outputs)} outputs"
                )
            for meta, value in zip(node.outputs, results, strict=True):
                shape, dtype = tuple(value.shape), dtype_name(value.dtype)
                if shape != tuple(meta.shape) or dtype != meta.dtype:
                    raise ValidationError(
                        f"node {node.name!r} ({node.op_type}): output {meta.name!r} is "
                        f"{meta.dtype} {list(meta.shape)} in the IR, but the operator gives "
                        f"{dtype} {list(shape)}"
                    )
