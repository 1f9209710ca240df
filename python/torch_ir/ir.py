"""The IR: dataclasses for a model's graph, its tensors and its weights' names.

How a node refers to its operands: ``inputs`` are the tensors in the order of the operator's schema
and ``attrs`` holds everything else by argument name. Reading them back, walk the schema's
arguments: one that is present in ``attrs`` takes that value (``None`` says that an optional tensor
before another one is absent, a number that a scalar stands in a tensor's place); otherwise a tensor
argument takes the next input, if any is left; otherwise it keeps its default. A tensor-list
argument takes as many entries as ``attrs["_tensor_list_sizes"]`` says (one size per list argument,
in schema order); where some of a list's entries are absent, ``attrs["_tensor_list_none_masks"]``
holds one list of booleans per list argument, true where there is no tensor. ``attrs["_mutates"]``
names the placeholders (buffers, weights or inputs) that an in-place node writes to, also when it
reaches them through views. ``attrs["_strides"]``, only in graphs that write in place, lists for
each output its strides in elements, or None where they are row-major; without it all of them are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["FORMAT_VERSION", "GETITEM", "IR", "IRNode", "TensorMeta"]

FORMAT_VERSION = "1.0"
"""Version of the JSON layout, ``major.minor``: a reader opens every older minor of its major."""

GETITEM = "<built-in function getitem>"
"""``op_type`` of a node that picks one output of a node with several."""

TENSOR_LIST_SIZES = "_tensor_list_sizes"
TENSOR_LIST_NONE_MASKS = "_tensor_list_none_masks"
MUTATES = "_mutates"
STRIDES = "_strides"
INTERNAL_ATTRS = frozenset({TENSOR_LIST_SIZES, TENSOR_LIST_NONE_MASKS, MUTATES, STRIDES})


@dataclass(slots=True)
class TensorMeta:
    """A tensor by name: shape (static) and dtype (short torch name, e.g. ``"float32"``).

    On node inputs ``producer_node`` is the node that makes the tensor (a graph input is its own
    producer, weights and constants have none) and ``producer_output_idx`` says which of its outputs
    it is.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    producer_node: str | None = None
    producer_output_idx: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return ``{name, shape, dtype}`` and, where known, the producer."""
        result: dict[str, Any] = {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": self.dtype,
        }
        if self.producer_node is not None:
            result["producer_node"] = self.producer_node
            result["producer_output_idx"] = self.producer_output_idx
        return result

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(slots=True)
class IRNode:
    """One operation: an ATen overload such as ``aten.conv2d.default``, its tensors and attributes.

    ``source`` says where it comes from in the model: ``{"module": "layer1.0.conv1", "location":
    "resnet.py:57"}``, either key may be absent.
    """

    name: str
    op_type: str
    inputs: list[TensorMeta] = field(default_factory=list)
    outputs: list[TensorMeta] = field(default_factory=list)
    attrs: dict[str, Any] = field(default_factory=dict)
    source: dict[str, str] | None = None

    @property
    def place(self) -> str:
        """The source for people: ``layer1.0.conv1 at resnet.py:57``; empty where unknown."""
        source = self.source or {}
        return " at ".join(source[key] for key in ("module", "location") if source.get(key))

    def __str__(self) -> str:
        operands = [tensor.name for tensor in self.inputs]
        operands += [f"{key}={value!r}" for key, value in self.attrs.items()]
        results = ", ".join(map(str, self.outputs)) or f"{self.name}: no tensor"
        return f"{results} = {self.op_type}({', '.join(operands)})"


@dataclass(eq=False)
class IR:
    """A model as a static graph, without its weights.

    Attributes:
        weights: shapes and dtypes of parameters and buffers, named by their ``state_dict`` key.
        weight_name_mapping: placeholder name used in nodes -> ``state_dict`` key (or constant
            name).
        constants: tensors that are part of the graph (lifted constants, non-persistent buffers).
        tied_weights: ``state_dict`` key -> the earlier key that names the same tensor.
        signature: how the model is called, kept only where it takes or returns more than a flat row
            of
            tensors: ``{"inputs": [...], "outputs": [...]}`` with one ``{"path", "name"}`` per
            tensor and one ``{"path", "value"}`` per constant.
    """

    model_name: str
    pytorch_version: str
    graph_inputs: list[TensorMeta] = field(default_factory=list)
    graph_outputs: list[TensorMeta] = field(default_factory=list)
    weights: list[TensorMeta] = field(default_factory=list)
    weight_name_mapping: dict[str, str] = field(default_factory=dict)
    nodes: list[IRNode] = field(default_factory=list)
    constants: dict[str, torch.Tensor] = field(default_factory=dict)
    tied_weights: dict[str, str] = field(default_factory=dict)
    signature: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the IR as plain dicts, lists, strings and numbers, ready for JSON."""
        from .serializer import ir_to_dict

        return ir_to_dict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> IR:
        """Build an IR from the dict that `to_dict` returns.

        Raises:
            SerializationError: a field is missing or has the wrong type.
        """
        from .serializer import dict_to_ir

        return dict_to_ir(data)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the IR as JSON. See `torch_ir.save_ir`."""
        from .serializer import save_ir

        save_ir(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> IR:
        """Read an IR from JSON. See `torch_ir.load_ir`."""
        from .serializer import load_ir

        return load_ir(path)

    @property
    def total_parameters(self) -> int:
        """Number of elements in all weights, buffers included, a tied tensor counted once."""
        total = 0
        for weight in self.weights:
            if weight.name not in self.tied_weights:
                count = 1
                for size in weight.shape:
                    count *= size
                total += count
        return total

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IR):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        lines = [f"IR {self.model_name!r} (PyTorch {self.pytorch_version})"]
        lines += [f"  input  {tensor}" for tensor in self.graph_inputs]
        lines.append(
            f"  {len(self.nodes)} nodes, {len(self.weights)} weights ({self.total_parameters:,} "
            f"parameters), {len(self.constants)} constants"
        )
        lines += [f"    {node}" for node in self.nodes]
        lines += [f"  output {tensor}" for tensor in self.graph_outputs]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return (
            f"IR(model_name={self.model_name!r}, nodes={len(self.nodes)}, "
            f"inputs={len(self.graph_inputs)}, outputs={len(self.graph_outputs)}, "
            f"weights={len(self.weights)})"
        )
