"""IRGraph: the compiler's graph of values and nodes. Passes edit it in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

import numpy as np

from npu_compiler.errors import IRError

ValueKind = Literal["input", "weight", "constant", "node"]
GETITEM = "<built-in function getitem>"


@dataclass(eq=False, slots=True)
class Value:
    """A tensor of the graph; identity is equality. ``key``: state_dict key or constant name of a
    parameter. ``strides``: how PyTorch lays it out, None where that is row-major or not stated.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: ValueKind
    key: str | None = None
    producer: Node | None = None
    index: int = 0
    strides: tuple[int, ...] | None = None

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def is_parameter(self) -> bool:
        """Whether the value is known before a run (a weight or a constant)."""
        return self.kind in ("weight", "constant")

    def __repr__(self) -> str:
        return f"{self.name}: {self.dtype}{list(self.shape)}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a node comes from in the model: module path, file, line (0 where unknown)."""

    module: str = ""
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file else ""
        return " at ".join(part for part in (self.module, place) if part)


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """An inference BatchNorm folded into the weights of the node before it; absent tensors are
    None.
    """

    gamma: Value | None
    beta: Value | None
    mean: Value
    var: Value
    eps: float

    @property
    def parameters(self) -> tuple[Value, ...]:
        """The tensors that are there."""
        return tuple(v for v in (self.gamma, self.beta, self.mean, self.var) if v is not None)


@dataclass(slots=True)
class Epilogue:
    """What a matrix or convolution kernel does to its result: fold a BatchNorm, add, apply an
    activation (a name in kernels/activation.py), clamp, in this order.
    """

    batch_norm: BatchNorm | None = None
    residual: Value | None = None
    activation: str | None = None
    clamp: tuple[float, float] | None = None


@dataclass(eq=False, slots=True)
class Node:
    """One operation. ``args`` are bound by the operator's argument names: tensors are Values (or
    lists of them, with None for absent entries), everything else is plain data. ``origins`` names
    the IR nodes it stands for.
    """

    name: str
    op_type: str
    args: dict[str, Any]
    outputs: list[Value] = field(default_factory=list)
    source: Source | None = None
    origins: tuple[str, ...] = ()
    epilogue: Epilogue = field(default_factory=Epilogue)
    # Placeholders that the node writes to in place, as the IR states it.
    mutates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.origins:
            self.origins = (self.name,)

    @property
    def output(self) -> Value:
        """The first output."""
        return self.outputs[0]

    def inputs(self) -> Iterator[Value]:
        """Every tensor the node reads, in argument order; a tensor read twice appears twice."""
        for arg in self.args.values():
            if isinstance(arg, Value):
                yield arg
            elif isinstance(arg, list):
                yield from (item for item in arg if isinstance(item, Value))
        if self.epilogue.batch_norm is not None:
            yield from self.epilogue.batch_norm.parameters
        if self.epilogue.residual is not None:
            yield self.epilogue.residual

    def replace_inputs(self, mapping: Mapping[Value, Value]) -> None:
        """Read ``mapping[v]`` instead of ``v``."""
        for name, arg in self.args.items():
            if isinstance(arg, Value):
                self.args[name] = mapping.get(arg, arg)
            elif isinstance(arg, list):
                self.args[name] = [
                    mapping.get(item, item) if isinstance(item, Value) else item for item in arg
                ]
        if self.epilogue.residual is not None:
            residual = self.epilogue.residual
            self.epilogue.residual = mapping.get(residual, residual)

    def tensor(self, name: str) -> Value:
        """The tensor argument ``name``; IRError where it is something else."""
        value = self.args[name]
        if not isinstance(value, Value):
            raise IRError(
                f"node {self.name!r} ({self.op_type}): {name} must be a tensor, found {value!r}"
            )
        return value

    def __repr__(self) -> str:
        return f"{self.name} = {self.op_type}({', '.join(v.name for v in self.inputs())})"


@dataclass(eq=False)
class IRGraph:
    """A model: nodes in execution order, its inputs, outputs, weights (by placeholder) and
    constants (by key).
    """

    model_name: str
    inputs: list[Value]
    outputs: list[Value]
    nodes: list[Node]
    weights: dict[str, Value] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    weight_name_mapping: dict[str, str] = field(default_factory=dict)
    # Names of the outputs in the IR, position by position (an output may be a value of another
    # name).
    output_names: list[str] = field(default_factory=list)
    # Nodes that do not fit their operator's signature, and why: only where the reader was asked to
    # accept them.
    unbound: dict[str, str] = field(default_factory=dict)
    # Whether linear layers use their weights where they are; None: not decided. See
    # passes/streamed_linears.py.
    weights_in_place: bool | None = None

    def users(self) -> dict[Value, list[Node]]:
        """For every value, the distinct nodes that read it, in order."""
        found: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs()):
                found.setdefault(value, []).append(node)
        return found

    def replace(self, mapping: Mapping[Value, Value]) -> None:
        """Read ``mapping[v]`` instead of ``v`` everywhere, outputs included, chains followed."""
        resolved = {}
        for value in mapping:
            end = value
            while end in mapping:
                end = mapping[end]
            resolved[value] = end
        for node in self.nodes:
            node.replace_inputs(resolved)
        self.outputs = [resolved.get(v, v) for v in self.outputs]
