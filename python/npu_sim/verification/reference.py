"""PyTorch's side of a verification: an IR executed node by node, its values open to inspection.

float16 and bfloat16 are computed in float32: how eager mode rounds between operators is no part of
what a model means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from torch_ir.ir import IR
from torch_ir.plan import Step, make_plan, result_tensors
from torch_ir.signature import bind_inputs
from torch_ir.weight_loader import match_weights

_NARROW = (torch.float16, torch.bfloat16)


class Reference:
    """One execution of an IR. ``values`` holds every tensor that has been computed, by name.

    Inputs and weights are copied where the graph writes to them. Raises torch_ir's errors where
    they do not fit.
    """

    def __init__(self, ir: IR, weights: Mapping[str, torch.Tensor], inputs: Any) -> None:
        plan = make_plan(ir)
        self._steps = {step.node.name: step for step in plan.steps}
        self._registers = plan.registers
        self._held: list[Any] = [None] * len(plan.registers)
        copied = any(step.written for step in plan.steps)
        found = match_weights(ir, weights, ir.constants, plan.used)
        given = dict(
            zip([meta.name for meta in ir.graph_inputs], bind_inputs(ir, inputs), strict=True)
        )
        # Tied weights stay tied.
        copies: dict[int, torch.Tensor] = {}
        for name, tensor in {**found, **given}.items():
            value = copies.setdefault(id(tensor), _widened(tensor.detach()))
            if copied and value is not None and value.data_ptr() == tensor.data_ptr():
                value = copies[id(tensor)] = value.clone()
            self._held[self._registers[name]] = value

    def __getitem__(self, name: str) -> torch.Tensor:
        value = self._held[self._registers[name]]
        if not isinstance(value, torch.Tensor):
            raise KeyError(name)
        return value

    def run(self, node: str) -> list[str]:
        """Execute one node; the names of its results."""
        step: Step = self._steps[node]
        args, words = step.operands(self._held)
        with torch.no_grad():
            result = step.op(
                *(_argument(a) for a in args), **{k: _argument(v) for k, v in words.items()}
            )
        tensors = result_tensors(result)
        for register, tensor in zip(step.outputs, tensors, strict=True):
            # What is written in place has to stay the very tensor.
            wide = tensor if step.written else _widened(tensor)
            self._held[register] = wide
        return [meta.name for meta in step.node.outputs]

    def replace(self, name: str, value: torch.Tensor) -> None:
        """Go on with ``value``; what shares memory with the tensor of that name sees it, too."""
        held = self[name]
        if any(n > 1 and s == 0 for n, s in zip(held.shape, held.stride(), strict=True)):
            self._held[self._registers[name]] = value.to(held.dtype)
        else:
            with torch.no_grad():
                held.copy_(value)

    def writes(self, node: str) -> bool:
        """Whether the node writes to an operand in place."""
        return bool(self._steps[node].written)


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in _NARROW else tensor


def _argument(value: Any) -> Any:
    return torch.float32 if isinstance(value, torch.dtype) and value in _NARROW else value


def tensors_of(values: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """torch tensors of arrays or tensors, by name."""
    from npu_runtime.cpu_fallback import to_tensor

    return {name: to_tensor(value, None, repr(name)) for name, value in values.items()}
