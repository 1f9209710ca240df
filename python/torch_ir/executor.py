"""Runs an IR with PyTorch's ATen operators."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from .aliasing import placeholders_at_risk
from .attrs import dtype_name
from .errors import ExecutionError
from .ir import IR
from .plan import Registers, Step, make_plan, result_tensors
from .signature import bind_inputs
from .validate import validate_ir
from .weight_loader import load_weights, match_weights

__all__ = ["IRExecutor", "execute_ir"]


class IRExecutor:
    """Executes an IR on the CPU, as the model that it came from would run in eager mode.

    Neither inputs nor weights passed in are ever changed. Buffers that the model updates in place
    (a KV cache) are private copies, which keep their state from one call to the next as the
    module's own buffers would; loading weights again resets them. Intermediate results are freed
    after their last use.

    Args:
        ir: the graph; it is validated first.
        weights: a ``state_dict``; may be given later with `load_weights`.
        constants: values for constants by name, in addition to (or in place of) those in the IR.

    Raises:
        ValidationError: the IR breaks a rule.
        WeightLoadError: weights are missing, unexpected or misshapen.
    """

    def __init__(
        self,
        ir: IR,
        weights: Mapping[str, torch.Tensor] | None = None,
        constants: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        validate_ir(ir)
        self.ir = ir
        self._plan = make_plan(ir)
        self._constants = {**ir.constants, **(constants or {})}
        written = placeholders_at_risk(ir, self._plan)
        self._written_inputs = [
            position for position, tensor in enumerate(ir.graph_inputs) if tensor.name in written
        ]
        self._written_weights = written & ir.weight_name_mapping.keys()
        self._expected = [
            (tensor.name, tuple(tensor.shape), tensor.dtype) for tensor in ir.graph_inputs
        ]
        self._base: Registers | None = None
        if weights is not None:
            self.load_weights_from_state_dict(weights)
        elif self._needs_no_weights():
            self.load_weights_from_state_dict({})

    def _needs_no_weights(self) -> bool:
        keys = {self.ir.weight_name_mapping.get(name) for name in self._plan.used}
        return not any(w.name in keys and w.name not in self._constants for w in self.ir.weights)

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Load weights from a .pt or .safetensors file. See `torch_ir.load_weights`.

        Raises:
            WeightLoadError: the file is unreadable, or weights are missing, unexpected or
                misshapen.
        """
        self.load_weights_from_state_dict(load_weights(path))

    def load_weights_from_state_dict(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Use the tensors of a ``state_dict``, which are shared, not copied, unless the graph
        writes to them.

        Raises:
            WeightLoadError: weights are missing, unexpected or misshapen; nothing is changed then.
        """
        found = match_weights(self.ir, state_dict, self._constants, self._plan.used)
        base: Registers = [None] * len(self._plan.registers)
        copies: dict[int, torch.Tensor] = {}
        for placeholder, tensor in found.items():
            value = tensor.detach()
            if placeholder in self._written_weights:
                # One copy per tensor, so that tied weights stay tied.
                value = copies.setdefault(id(tensor), value.clone())
            base[self._plan.registers[placeholder]] = value
        self._base = base
        self._state_storages = {value.untyped_storage()._cdata for value in copies.values()}

    def __call__(self, *inputs: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
        """Execute with the inputs as positional or keyword arguments. See `execute`."""
        if kwargs and inputs:
            raise ExecutionError("pass the inputs either by position or by name, not both")
        if len(inputs) == 1 and isinstance(inputs[0], (tuple, list, dict)):
            return self.execute(inputs[0])
        return self.execute(kwargs or inputs)

    def execute(self, inputs: Any) -> tuple[torch.Tensor, ...]:
        """Run the graph.

        Args:
            inputs: a tensor, a tuple in the order of ``ir.graph_inputs``, a dict by name, or the
                nested structure that the model itself takes. Shapes and dtypes must be those of the
                IR.

        Returns:
            One tensor per entry of ``ir.graph_outputs``.

        Raises:
            ExecutionError: weights are not loaded, an input does not fit, or an operator failed.
        """
        if self._base is None:
            raise ExecutionError(
                f"Weights not loaded: model {self.ir.model_name!r} has {len(self.ir.weights)} "
                "weights; call load_weights or load_weights_from_state_dict first"
            )
        tensors = bind_inputs(self.ir, inputs)
        self._check_inputs(tensors)
        for position in self._written_inputs:
            tensors[position] = tensors[position].clone()
        registers = self._base.copy()
        for register, tensor in zip(self._plan.inputs, tensors, strict=True):
            registers[register] = tensor
        del tensors
        with torch.no_grad():
            self._run(registers)
        return tuple(self._result(registers[register]) for register in self._plan.outputs)

    def _run(self, registers: Registers) -> None:
        step: Step | None = None
        try:
            for step in self._plan.steps:
                args, kwargs = step.operands(registers)
                result = step.op(*args, **kwargs)
                outputs = step.outputs
                if isinstance(result, torch.Tensor):
                    registers[outputs[0]] = result
                elif result is not None:
                    tensors = result_tensors(result)
                    if len(tensors) != len(outputs):
                        raise ExecutionError(
                            f"returned {len(tensors)} tensors, but the IR lists {len(outputs)} "
                            "outputs"
                        )
                    # Not with a variable for the tensor, which would keep the last one alive.
                    for position, register in enumerate(outputs):
                        registers[register] = tensors[position]
                    del tensors
                # Drop every reference before the next operator allocates.
                del args, result
                for register in step.frees:
                    registers[register] = None
        except Exception as error:
            node = step.node if step is not None else None
            where = f" of {node.place}" if node is not None and node.place else ""
            raise ExecutionError(
                f"node {node.name!r} ({node.op_type}){where} failed: {error}"
                if node
                else str(error)
            ) from error

    def _result(self, tensor: torch.Tensor) -> torch.Tensor:
        # A returned view of private state would change under the caller's hands at the next call.
        if self._state_storages and tensor.untyped_storage()._cdata in self._state_storages:
            return tensor.clone()
        return tensor

    def _check_inputs(self, tensors: list[torch.Tensor]) -> None:
        for (name, shape, dtype), tensor in zip(self._expected, tensors, strict=True):
            if not isinstance(tensor, torch.Tensor):
                raise ExecutionError(
                    f"input {name!r}: expected a {dtype} tensor of shape {list(shape)}, found "
                    f"{type(tensor).__name__}"
                )
            if tuple(tensor.shape) != shape or dtype_name(tensor.dtype) != dtype:
                raise ExecutionError(
                    f"input {name!r}: expected {dtype} {list(shape)}, found "
                    f"{dtype_name(tensor.dtype)} {list(tensor.shape)}; convert the input or "
                    "extract the IR for this shape"
                )
            if tensor.is_meta:
                raise ExecutionError(
                    f"input {name!r} is on the meta device and has no values; pass a real tensor"
                )


def execute_ir(
    ir: IR,
    inputs: Any,
    weights: Mapping[str, torch.Tensor] | None = None,
    weights_path: str | os.PathLike[str] | None = None,
    constants: Mapping[str, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, ...]:
    """Run an IR once. See `IRExecutor.execute`.

    Raises:
        ValueError: neither ``weights`` nor ``weights_path`` is given, or both are.
    """
    if (weights is None) == (weights_path is None):
        raise ValueError("Either weights or weights_path must be given, and not both")
    executor = IRExecutor(ir, weights=weights, constants=constants)
    if weights_path is not None:
        executor.load_weights(weights_path)
    return executor.execute(inputs)
