"""CPU segments: parts of a model that run with PyTorch's operators, through torch_ir."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npu_runtime.convert import Array, as_array
from npu_runtime.dtypes import numpy_dtype
from npu_runtime.errors import ArgumentError, MissingDependencyError, SegmentError
from npu_runtime.names import listed

if TYPE_CHECKING:
    import torch


def require_torch_ir() -> Any:
    """The module torch_ir; MissingDependencyError where PyTorch is not installed."""
    try:
        import torch_ir
    except ImportError as error:
        raise MissingDependencyError(
            f"the model has nodes that run on the CPU, which takes PyTorch: {error}"
        ) from error
    return torch_ir


def to_tensor(value: Any, dtype: str | None = None, what: str = "tensor") -> torch.Tensor:
    """A torch tensor of anything array-like, sharing its memory where it can.

    ``dtype`` is the IR dtype wanted; a floating one converts into any other.
    """
    import torch

    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
    else:
        tensor = _from_array(as_array(value, what))
    wanted = tensor.dtype if dtype is None else getattr(torch, dtype)
    if tensor.dtype == wanted:
        return tensor
    if tensor.is_floating_point() and wanted.is_floating_point:
        return tensor.to(wanted)
    if not tensor.is_floating_point() and not wanted.is_floating_point:
        converted = tensor.to(wanted)
        if wanted != torch.bool and torch.equal(converted.to(tensor.dtype), tensor):
            return converted
    given = str(tensor.dtype).removeprefix("torch.")
    raise ArgumentError(f"{what}: {given} values given, {dtype} expected: convert them first")


def _from_array(array: Array) -> torch.Tensor:
    import torch

    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if any(stride < 0 for stride in native.strides):
        native = native.copy()
    bits = native.view(np.int16) if native.dtype == numpy_dtype("bfloat16") else native
    with warnings.catch_warnings():
        # Mapped weight files cannot be written to; nobody does.
        warnings.filterwarnings("ignore", message=".*not writable", category=UserWarning)
        tensor = torch.from_numpy(bits)
    return tensor if bits is native else tensor.view(torch.bfloat16)


def to_array(tensor: Any, what: str) -> Array:
    """A numpy array of a tensor, sharing its memory where it can."""
    resolve = getattr(tensor, "resolve_conj", None)
    return as_array(tensor if resolve is None else resolve().resolve_neg(), what)


class CpuProgram:
    """An IR made ready for the CPU. Weights that it writes to in place keep their state between
    runs; ``stateful`` says whether there are any.
    """

    def __init__(self, ir: Mapping[str, Any], folder: Path | None, stateful: bool = False) -> None:
        torch_ir = require_torch_ir()
        from torch_ir.serializer import dict_to_ir

        self._torch_ir = torch_ir
        self.stateful = stateful
        try:
            self._ir = dict_to_ir(ir, folder)
            self._executor = torch_ir.IRExecutor(self._ir)
        except torch_ir.TorchIRError as error:
            raise SegmentError(str(error)) from error
        self.weights = {w.name: (tuple(w.shape), w.dtype) for w in self._ir.weights}
        self._dtypes = [(t.name, t.dtype) for t in self._ir.graph_inputs]

    def load_weights(self, weights: Mapping[str, Any]) -> None:
        """Take the IR's weights, by state_dict key, in the IR's dtypes."""
        found = {
            name: to_tensor(weights[name], dtype, f"weight {name!r}")
            for name, (_, dtype) in self.weights.items()
            if name in weights
        }
        try:
            self._executor.load_weights_from_state_dict(found)
        except self._torch_ir.TorchIRError as error:
            raise SegmentError(str(error)) from error

    def run(self, inputs: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        """Outputs for inputs in the IR's order, which may be arrays or tensors."""
        tensors = [
            to_tensor(value, dtype, repr(name))
            for (name, dtype), value in zip(self._dtypes, inputs, strict=True)
        ]
        try:
            found: tuple[torch.Tensor, ...] = self._executor.execute(tuple(tensors))
        except self._torch_ir.TorchIRError as error:
            raise SegmentError(str(error)) from error
        return found


def execute_cpu_partition(
    nodes: Sequence[Any],
    pool: MutableMapping[str, Any],
    weights: Mapping[str, Any],
    weight_name_mapping: Mapping[str, str] | None = None,
) -> dict[str, Array]:
    """Run IR nodes on the CPU with PyTorch's operators.

    Args:
        nodes: in execution order, as in the IR (dicts or ``torch_ir.IRNode``).
        pool: tensors by name (numpy or torch), converted to the dtypes that the nodes declare;
            every result is added to it.
        weights: weights and constants, by state_dict key or by placeholder.
        weight_name_mapping: placeholder -> state_dict key.

    Returns:
        The results by name, as numpy arrays (bfloat16 as ml_dtypes').

    Raises:
        ArgumentError: a tensor is neither in ``pool`` nor in ``weights``.
        SegmentError: a node failed; the message names it.
        MissingDependencyError: PyTorch is not installed.
    """
    if not nodes:
        return {}
    plain = [node if isinstance(node, Mapping) else _node_dict(node) for node in nodes]
    mapping = dict(weight_name_mapping or {})
    made = {t["name"]: t for node in plain for t in node["outputs"]}
    inputs: dict[str, dict[str, Any]] = {}
    state: dict[str, Any] = {}
    metas: dict[str, dict[str, Any]] = {}
    for node in plain:
        for tensor in node["inputs"]:
            name = tensor["name"]
            if name in made or name in inputs or name in metas:
                continue
            key = mapping.get(name, name)
            if name in pool:
                inputs[name] = {k: tensor[k] for k in ("name", "shape", "dtype")}
            elif key in weights or name in weights:
                metas[name] = {"name": key, "shape": tensor["shape"], "dtype": tensor["dtype"]}
                state[key] = weights[key] if key in weights else weights[name]
            else:
                raise ArgumentError(
                    f"node {node['name']!r} ({node['op_type']}) reads {name!r}, which is neither "
                    f"in the pool nor in the weights; the pool has {listed(pool)}"
                )
    ir = {
        "model_name": "segment",
        "pytorch_version": "",
        "graph_inputs": list(inputs.values()),
        "graph_outputs": [{k: t[k] for k in ("name", "shape", "dtype")} for t in made.values()],
        "weights": list({m["name"]: m for m in metas.values()}.values()),
        "weight_name_mapping": {name: meta["name"] for name, meta in metas.items()},
        "nodes": [_with_inputs(node, inputs) for node in plain],
    }
    program = CpuProgram(ir, None)
    program.load_weights(state)
    results = program.run([pool[name] for name in inputs])
    found = {name: to_array(tensor, repr(name)) for name, tensor in zip(made, results, strict=True)}
    pool.update(found)
    return found


def _node_dict(node: Any) -> dict[str, Any]:
    """An IRNode as the dict that the IR's JSON has for it."""
    return {
        "name": node.name,
        "op_type": node.op_type,
        "inputs": [tensor.to_dict() for tensor in node.inputs],
        "outputs": [tensor.to_dict() for tensor in node.outputs],
        "attrs": node.attrs,
    }


def _with_inputs(node: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    found = [
        {**t, "producer_node": t["name"], "producer_output_idx": 0} if t["name"] in inputs else t
        for t in node["inputs"]
    ]
    return {**node, "inputs": found, "attrs": node.get("attrs", {})}
