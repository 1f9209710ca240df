"""Compares an IR, executed, with the model that it came from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from .attrs import dtype_name, same_value
from .executor import IRExecutor
from .ir import IR
from .signature import flatten_outputs
from .weight_loader import load_weights

__all__ = ["VerificationReport", "verify_ir", "verify_ir_with_state_dict"]


@dataclass
class VerificationReport:
    """The outcome of a verification.

    Attributes:
        max_diff, mean_diff: largest and mean absolute difference over all outputs.
        output_details: per output ``{index, shape, is_close, max_diff, mean_diff}``, and ``reason``
            where the shapes or dtypes differ.
        error_message: why the verification could not be carried out, or what differs.
    """

    is_valid: bool
    max_diff: float = 0.0
    mean_diff: float = 0.0
    num_outputs: int = 0
    output_details: list[dict[str, Any]] = field(default_factory=list)
    error_message: str | None = None

    def __str__(self) -> str:
        lines = [
            f"Verification {'PASSED' if self.is_valid else 'FAILED'}: {self.num_outputs} outputs, "
            f"max difference {self.max_diff:.3e}, mean difference {self.mean_diff:.3e}"
        ]
        if self.error_message:
            lines.append(f"  {self.error_message}")
        for detail in self.output_details:
            mark = "ok" if detail["is_close"] else "differs"
            reason = f" ({detail['reason']})" if "reason" in detail else ""
            lines.append(
                f"  output {detail['index']} {list(detail['shape'])}: {mark}, max "
                f"{detail['max_diff']:.3e}, mean {detail['mean_diff']:.3e}{reason}"
            )
        return "\n".join(lines)


def verify_ir(
    ir: IR,
    weights_path: str | os.PathLike[str],
    original_model: torch.nn.Module,
    test_inputs: Any,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    constants: Mapping[str, torch.Tensor] | None = None,
) -> tuple[bool, VerificationReport]:
    """Verify an IR with weights from a file. See `verify_ir_with_state_dict`."""
    try:
        weights = load_weights(weights_path)
    except Exception as error:
        return _failed(f"loading the weights failed: {error}")
    return verify_ir_with_state_dict(
        ir, weights, original_model, test_inputs, rtol, atol, constants
    )


def verify_ir_with_state_dict(
    ir: IR,
    state_dict: Mapping[str, torch.Tensor],
    original_model: torch.nn.Module,
    test_inputs: Any,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    constants: Mapping[str, torch.Tensor] | None = None,
) -> tuple[bool, VerificationReport]:
    """Run the model and its IR on the same inputs and compare every output.

    Shapes and dtypes must be equal. NaN matches NaN, an infinity matches itself. Random operators
    start from the same seed. Neither the model, nor the weights, nor the inputs are changed.

    Args:
        test_inputs: what the model takes: a tensor, a tuple, or a dict of keyword arguments.
        rtol, atol: tolerances, as for ``torch.isclose``.
        constants: values for constants that are not in the IR; buffers of the model that no
            ``state_dict`` holds are found without.

    Returns:
        Whether all outputs agree, and the report. A failure of the model or of the IR is reported,
        not raised.
    """
    try:
        expected = _run_model(original_model, test_inputs)
    except Exception as error:
        return _failed(f"running the original model failed: {type(error).__name__}: {error}")
    try:
        values = {**_unsaved_buffers(ir, original_model, state_dict), **(constants or {})}
        executor = IRExecutor(ir, weights=state_dict, constants=values)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            actual = executor.execute(test_inputs)
    except Exception as error:
        return _failed(f"executing the IR failed: {type(error).__name__}: {error}")
    return _compare(ir, expected, actual, rtol, atol)


def _failed(message: str) -> tuple[bool, VerificationReport]:
    report = VerificationReport(
        False, max_diff=float("inf"), mean_diff=float("inf"), error_message=message
    )
    return False, report


def _unsaved_buffers(
    ir: IR, model: torch.nn.Module, state_dict: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the model's non-persistent buffers that the IR needs and has no values for."""
    wanted = {w.name for w in ir.weights} - state_dict.keys() - ir.constants.keys()
    saved = model.state_dict(keep_vars=True).keys()
    return {
        name: buffer
        for name, buffer in model.named_buffers(remove_duplicate=False)
        if name in wanted and name not in saved
    }


def _run_model(model: torch.nn.Module, inputs: Any) -> list[Any]:
    """Run the model on copies of everything that it could write to."""
    if isinstance(inputs, Mapping):
        args, kwargs = (), dict(inputs)
    else:
        args = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
        kwargs = {}
    copy = torch.utils._pytree.tree_map_only(torch.Tensor, torch.clone, (args, kwargs))
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        result = torch.func.functional_call(model, buffers, copy[0], copy[1])
    return flatten_outputs(result)


def _compare(
    ir: IR, expected: list[Any], actual: tuple[torch.Tensor, ...], rtol: float, atol: float
) -> tuple[bool, VerificationReport]:
    tensors = [leaf for leaf in expected if isinstance(leaf, torch.Tensor)]
    problems = []
    if len(tensors) != len(actual):
        problems.append(f"the model returns {len(tensors)} tensors, the IR {len(actual)}")
    if ir.signature is not None:
        fixed = [entry["value"] for entry in ir.signature["outputs"] if "value" in entry]
        constants = [leaf for leaf in expected if not isinstance(leaf, torch.Tensor)]
        if not same_value(constants, fixed):
            problems.append(f"the model returns the constants {constants}, the IR {fixed}")
    details, total, count = [], 0.0, 0
    for index, (left, right) in enumerate(zip(tensors, actual, strict=False)):
        detail, elements = _compare_output(index, left, right, rtol, atol)
        details.append(detail)
        total += detail["mean_diff"] * elements
        count += elements
    bad = [detail["index"] for detail in details if not detail["is_close"]]
    if bad:
        problems.append(f"outputs {bad} differ by more than rtol={rtol}, atol={atol}")
    report = VerificationReport(
        is_valid=not problems,
        max_diff=max((detail["max_diff"] for detail in details), default=0.0),
        mean_diff=total / count if count else 0.0,
        num_outputs=len(actual),
        output_details=details,
        error_message="; ".join(problems) or None,
    )
    return report.is_valid, report


def _compare_output(
    index: int, expected: torch.Tensor, actual: torch.Tensor, rtol: float, atol: float
) -> tuple[dict[str, Any], int]:
    detail: dict[str, Any] = {"index": index, "shape": tuple(actual.shape)}
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        reason = (
            f"the model gives {dtype_name(expected.dtype)} {list(expected.shape)}, the IR "
            f"{dtype_name(actual.dtype)} {list(actual.shape)}"
        )
        inf = float("inf")
        detail.update(is_close=False, max_diff=inf, mean_diff=inf, reason=reason)
        return detail, 1
    wide = torch.complex128 if expected.is_complex() else torch.float64
    exact = not (expected.is_floating_point() or expected.is_complex())
    left, right = expected.detach().to(wide), actual.detach().to(wide)
    same = torch.isnan(left) & torch.isnan(right)
    # Large integers do not fit a float64: compare them as they are.
    same |= (expected == actual) if exact else (left == right)
    diff = torch.where(same, torch.zeros((), dtype=torch.float64), (left - right).abs())
    diff = torch.nan_to_num(diff, nan=float("inf"), posinf=float("inf"))
    close = same | torch.isclose(left, right, rtol=rtol, atol=atol)
    if exact:
        close = same
    detail.update(
        is_close=bool(close.all()),
        max_diff=float(diff.max()) if diff.numel() else 0.0,
        mean_diff=float(diff.mean()) if diff.numel() else 0.0,
    )
    return detail, diff.numel()
