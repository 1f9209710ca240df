"""What a graph computes in PyTorch: in its own dtypes, in float64, and in float64 with errors.

The runs with errors say how far rounding may move each value. Every float operand and result gets a
random relative error of its roundoff; what the results then differ from the exact ones by is the
condition of the graph times the rounding of each step, cancellation and all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tests.fuzz.builder import Case
from tests.fuzz.traits import CANCELLING, base_name
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

    def of_operand(self, tensor: torch.Tensor) -> torch.Tensor:
        """The operand as a float32 unit sees it."""
        return self._with_error(tensor, UNIT_ROUNDOFF["float32"])

    def of_result(self, tensor: torch.Tensor, dtype: str) -> torch.Tensor:
        """The result as memory keeps it."""
        return self._with_error(tensor, UNIT_ROUNDOFF[self._storage.get(dtype, dtype)])

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
    for name, tensor in (case.inputs | case.weights).items():
        if name in plan.registers:
            registers[plan.registers[name]] = tensor if double is None else _widened(tensor)
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
    rounded = double is not None and any(meta.name not in case.exact for meta in step.node.outputs)
    if double is not None:
        args = [_in_double(a, double if rounded else None) for a in args]
        words = {k: _in_double(v, double if rounded else None) for k, v in words.items()}
    tensors = result_tensors(step.op(*args, **words))
    # A getitem's operands are all results of its producer.
    for register, meta, tensor in zip(step.outputs, step.node.outputs, tensors, strict=False):
        if double is not None and meta.dtype.startswith(("float", "bfloat")):
            tensor = _widened(tensor)
            if rounded and step.schema is not None:
                tensor = double.of_result(tensor, meta.dtype)
                if base_name(step.node.op_type) in CANCELLING:
                    tensor = tensor + (double.of_operand(torch.ones_like(tensor)) - 1)
        registers[register] = tensor
        values[meta.name] = tensor


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.dtype in FLOATS else tensor


def _in_double(value: Any, double: Perturbation | None) -> Any:
    """An argument for a float64 run: float dtypes become float64, tensors get their error."""
    if isinstance(value, torch.Tensor):
        return value if double is None else double.of_operand(value)
    if isinstance(value, torch.dtype):
        return torch.float64 if value in FLOATS else value
    if isinstance(value, (list, tuple)) and any(isinstance(v, torch.Tensor) for v in value):
        return [_in_double(v, double) for v in value]
    return value
