"""Compiles a case, runs it on devices and compares every output with PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

import npu_compiler
from npu_compiler.compiled_program import CompiledProgram
from tests.fuzz.builder import Case
from tests.fuzz.reference import errors, evaluate, evaluate_exactly
from tests.npu_compiler.harness import execute, open_device, to_numpy, with_orders
from tests.tolerances import UNDERFLOW, UNIT_ROUNDOFF
from torch_ir.plan import make_plan

# Several times the largest error of a few runs with random roundings: roundings that all go the
# worst way are rare, and a fused kernel rounds less often than the runs do.
MARGIN = {"float32": 12.0, "float16": 5.0, "bfloat16": 5.0}


class Mismatch(AssertionError):
    """A device's result is not PyTorch's."""


def compile_case(case: Case, compute_dtype: str) -> CompiledProgram:
    """The program of a case, checked after every pass."""
    return npu_compiler.compile(case.ir.to_dict(), compute_dtype=compute_dtype, check=True)


def check(
    case: Case, compute_dtype: str, devices: Sequence[str], *, orders: bool = False
) -> CompiledProgram:
    """Raise Mismatch where a device's outputs are not PyTorch's. ``orders``: the reference device
    in both thread orders."""
    program = compile_case(case, compute_dtype)
    expected = Expected(case, program)
    inputs = {name: to_numpy(tensor) for name, tensor in case.inputs.items()}
    weights = {name: to_numpy(tensor) for name, tensor in case.weights.items()}
    names = [meta.name for meta in case.ir.graph_outputs]
    for kind in with_orders(program, devices) if orders else devices:
        outputs = execute(program, inputs, weights, open_device(kind))
        for slot, (name, actual) in enumerate(zip(names, outputs, strict=True)):
            problem = expected.problem(name, actual)
            if problem is not None:
                raise Mismatch(f"{kind}: output {slot} ({name}): {problem}")
    return program


class Expected:
    """What the values of a case may be."""

    def __init__(self, case: Case, program: CompiledProgram) -> None:
        plan = make_plan(case.ir)
        self.own = evaluate(case, plan)
        self.exact = evaluate_exactly(case, plan)
        self.storage = {
            spec.dtype: spec.storage_dtype for spec in (*program.output_specs, *program.input_specs)
        }
        self.errors = errors(case, self.exact, self.storage)

    def problem(self, name: str, actual: np.ndarray) -> str | None:
        """What is wrong with a device's value, or None."""
        own = to_numpy(self.own[name])
        if actual.shape != own.shape or actual.dtype != own.dtype:
            return f"{actual.dtype}{list(actual.shape)} instead of {own.dtype}{list(own.shape)}"
        if own.dtype.kind in "biu":
            wrong = np.flatnonzero(actual.ravel() != own.ravel())
            return None if not wrong.size else _place(actual, own, int(wrong[0]), wrong.size, 0.0)
        dtype = str(self.own[name].dtype).removeprefix("torch.")
        exact = self.exact[name].to(torch.float64).numpy()
        allowed = self.allowed(name, dtype, exact)
        found, own = actual.astype(np.float64), own.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            good = np.zeros(found.shape, bool)
            for wanted in (own, exact):
                good |= np.isnan(found) & np.isnan(wanted)
                good |= found == wanted
                good |= np.abs(found - wanted) <= allowed
        wrong = np.flatnonzero(~good.ravel())
        return None if not wrong.size else _place(found, exact, int(wrong[0]), wrong.size, allowed)

    def allowed(self, name: str, dtype: str, exact: np.ndarray) -> float:
        """The largest difference that rounding explains."""
        storage = self.storage.get(dtype, dtype)
        finite = np.abs(exact[np.isfinite(exact)])
        scale = float(finite.max()) if finite.size else 0.0
        # The user gets the IR's dtype back.
        unit = max(UNIT_ROUNDOFF[storage], UNIT_ROUNDOFF[dtype])
        floor = 4 * unit * scale + max(UNDERFLOW[storage], UNDERFLOW[dtype])
        return MARGIN[storage] * self.errors.get(name, 0.0) + floor


def _place(actual: np.ndarray, wanted: np.ndarray, flat: int, count: int, allowed: float) -> str:
    index = tuple(int(i) for i in np.unravel_index(flat, actual.shape))
    return (
        f"{count} of {actual.size} wrong, the first at {list(index)}: {actual[index]} instead of "
        f"{wanted[index]} (allowed difference {allowed:.3g})"
    )
