"""What a graph computes in PyTorch: in its own dtypes, in float64, and in float64 with errors.

The runs with errors say how far rounding may move each value. Every float operand and result gets a
random relative error of its roundoff; what the results then differ from the exact ones by is the
condition of the graph times the rounding of each step, cancellation and all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from tests.fuzz.builder import Case
from tests.fuzz.traits import CANCELLING, STEPPING, base_name
from tests.tolerances import UNIT_ROUNDOFF
from torch_ir.plan import Plan, Step, make_plan, result_tensors

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
Values = dict[str, torch.Tensor]


def evaluate(case: Case, plan: Plan | None = None) -> Values:
    """Every value of the graph, computed by PyTorch in the dtypes of the IR."""
    return _run(case, plan or make_plan(case.ir), None)


def evaluate_exactly(case: Case, plan: Plan | None = None) -> Values:
    """Every value, floats in float64."""
    return _run(case, plan or make_plan(case.ir), Perturbation(None, {}))


class Perturbation:
    """Relative errors: of operands as float32 arithmetic has them, of results as storage has."""

    def __init__(self, seed: int | None, storage: Mapping[str, str]) -> None:
        self._storage = storage
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)

    def of_operand(self, value: Any) -> Any:
        """A tensor as a float32 unit sees it; anything else as it is."""
        if not isinstance(value, torch.Tensor):
            return value
        return self._with_error(value, UNIT_ROUNDOFF["float32"])

    def of_stored(self, value: Any, dtype: str) -> Any:
        """A tensor as memory keeps what is made of it; anything else as it is."""
        return self.of_result(value, dtype) if isinstance(value, torch.Tensor) else value

    def of_result(self, tensor: torch.Tensor, dtype: str) -> torch.Tensor:
        """The result as memory keeps it."""
        return self._with_error(tensor, UNIT_ROUNDOFF.get(self._storage.get(dtype, dtype), 0.0))

    def _with_error(self, tensor: torch.Tensor, roundoff: float) -> torch.Tensor:
        if self._generator is None or not tensor.is_floating_point() or not tensor.numel():
            return tensor
        noise = torch.rand(tensor.shape, generator=self._generator, dtype=torch.float64)
        return tensor * (1 + roundoff * (2 * noise - 1))


def errors(
    case: Case, exact: Values, storage: Mapping[str, str], runs: int = 3
) -> dict[str, float]:
    """How far rounding may move each float value: the largest difference of ``runs`` runs with
    errors from the exact one. ``storage``: storage dtype by IR dtype."""
    plan = make_plan(case.ir)
    found: dict[str, float] = {}
    for seed in range(runs):
        for name, value in _run(case, plan, Perturbation(seed, storage)).items():
            if not value.is_floating_point() or not value.numel():
                continue
            difference = (value - exact[name]).abs()
            finite = difference[torch.isfinite(difference)]
            largest = float(finite.max()) if finite.numel() else 0.0
            found[name] = max(found.get(name, 0.0), largest)
    return found


def _run(case: Case, plan: Plan, double: Perturbation | None) -> Values:
    registers: list[Any] = [None] * len(plan.registers)
    values: Values = {}
    written = any(step.written for step in plan.steps)
    for name, tensor in (case.inputs | case.weights).items():
        if name in plan.registers:
            own = tensor.clone() if written else tensor
            registers[plan.registers[name]] = own if double is None else _widened(own)
    default = torch.get_default_dtype()
    if double is not None:
        torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            for step in plan.steps:
                _step(case, step, registers, values, double)
    finally:
        torch.set_default_dtype(default)
    for name, tensor in (case.inputs | case.weights).items():
        values[name] = tensor if double is None else _widened(tensor)
    return values


def _step(
    case: Case, step: Step, registers: list[Any], values: Values, double: Perturbation | None
) -> None:
    args, words = step.operands(registers)
    if double is not None:
        args, words = tree_map(_in_double, (args, words))
    rounded = double is not None and any(meta.name not in case.exact for meta in step.node.outputs)
    if double is None or not rounded:
        tensors = result_tensors(step.op(*args, **words))
    else:
        tensors = _with_errors(step, args, words, double)
    # A getitem's operands are all results of its producer.
    for register, meta, tensor in zip(step.outputs, step.node.outputs, tensors, strict=False):
        if double is not None and meta.dtype.startswith(("float", "bfloat")):
            tensor = _widened(tensor)
        registers[register] = tensor
        values[meta.name] = tensor


def _with_errors(
    step: Step, args: list[Any], words: dict[str, Any], double: Perturbation
) -> list[torch.Tensor]:
    """The step's results with errors; not those that are views of an operand."""
    dtypes = [meta.dtype for meta in step.node.outputs]
    if step.written:
        others = tree_map(double.of_operand, (args[1:], words))
        (result,) = result_tensors(step.op(args[0], *others[0], **others[1]))
        # What shares its memory sees the error, too.
        found = double.of_result(result, dtypes[0])
        if base_name(step.node.op_type).rstrip("_") in CANCELLING:
            found = found + (double.of_operand(torch.ones_like(found)) - 1)
        return [result.copy_(found)]
    memory = {_memory(t) for t in tree_leaves((args, words)) if isinstance(t, torch.Tensor)}
    tensors = result_tensors(step.op(*args, **words))
    if any(_memory(tensor) in memory for tensor in tensors):
        return tensors
    name = base_name(step.node.op_type)
    if name in STEPPING:
        args, words = tree_map(lambda v: double.of_stored(v, dtypes[0]), (args, words))
    args, words = tree_map(double.of_operand, (args, words))
    tensors = result_tensors(step.op(*args, **words))
    found = [
        double.of_result(_widened(t), dtype) for t, dtype in zip(tensors, dtypes, strict=False)
    ]
    if name in CANCELLING:
        return [t + (double.of_operand(torch.ones_like(t)) - 1) for t in found]
    return found


def _memory(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.dtype in FLOATS else tensor


def _in_double(value: Any) -> Any:
    """An argument for a float64 run: float dtypes become float64."""
    return torch.float64 if isinstance(value, torch.dtype) and value in FLOATS else value
