"""Builds an IR from calls of ATen overloads, without torch.export: milliseconds instead of seconds.

Every call runs eagerly, which gives shapes, dtypes and values; the IR is the one that extraction
writes for the same calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from npu_compiler.constraints import check_constraints
from npu_compiler.errors import CompilerError
from npu_compiler.ir_reader import load_ir_from_dict
from npu_compiler.ops import find_op
from torch_ir.attrs import dtype_name
from torch_ir.binding import split_arguments
from torch_ir.errors import TorchIRError
from torch_ir.ir import GETITEM, IR, IRNode, TensorMeta
from torch_ir.plan import result_tensors
from torch_ir.schema import op_schema

# Operators whose results share the operand's memory, or are copies, as its strides will have it.
MAY_COPY = frozenset({"contiguous", "flatten", "reshape", "reshape_as", "ravel", "_reshape_alias"})


class RejectedError(Exception):
    """PyTorch or the operator's record refuses a call."""


@dataclass(eq=False)
class Value:
    """A tensor of the graph. ``exact``: every device computes the very bits that PyTorch does."""

    meta: TensorMeta
    tensor: torch.Tensor
    kind: str = "node"
    exact: bool = True
    # Whether it was, before something wrote to it in place.
    was_exact: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes."""
        return self.meta.shape

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.meta.shape)

    @property
    def dtype(self) -> str:
        """Short name of the dtype."""
        return self.meta.dtype


@dataclass
class Case:
    """A graph with everything that is needed to run it."""

    ir: IR
    inputs: dict[str, torch.Tensor]
    weights: dict[str, torch.Tensor]
    # Names of values that devices compute to the bit.
    exact: set[str] = field(default_factory=set)

    @property
    def ops(self) -> list[str]:
        """Operators in order, without the getitems."""
        return [node.op_type for node in self.ir.nodes if node.op_type != GETITEM]

    def __str__(self) -> str:
        return str(self.ir)


class Builder:
    """See the module's text."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.nodes: list[IRNode] = []
        # Names of the values that some node reads.
        self.read: set[str] = set()
        # Memory of results that are not row-major, and memory that a reshape or contiguous() of
        # such a result shares, or would share if it were row-major, which no IR says.
        self._strided: set[int] = set()
        self._unclear: set[int] = set()
        self._names = 0
        # Takes back the last write in place.
        self.undo: Callable[[], None] | None = None

    def _name(self, stem: str) -> str:
        self._names += 1
        return f"{stem}_{self._names}"

    def _value(self, value: Value) -> Value:
        self.values.append(value)
        return value

    def input(self, tensor: torch.Tensor) -> Value:
        """A graph input."""
        name = self._name("x")
        return self._value(Value(meta_of(name, tensor, name), tensor, "input"))

    def weight(self, tensor: torch.Tensor) -> Value:
        """A weight."""
        return self._value(Value(meta_of(self._name("p_w"), tensor), tensor, "weight"))

    def call(self, op_type: str, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Value]:
        """Run an overload, check that its record takes it, and add it to the graph.

        Arguments hold Values where the overload takes tensors. Returns its tensors: several come
        through getitem nodes. Raises RejectedError.
        """
        name = self._name(op_type.split(".")[1].strip("_"))
        schema = op_schema(op_type)
        operands, words = tree_map(_tensor, (list(args), kwargs))
        try:
            with torch.no_grad():
                result = schema.op(*operands, **words)
        except (RuntimeError, IndexError, TypeError, NotImplementedError, ValueError) as error:
            raise RejectedError(f"PyTorch: {str(error).splitlines()[:1]}") from error
        tensors = result_tensors(result)
        if not tensors or any(t.dim() > 6 or t.numel() > 20_000 for t in tensors):
            raise RejectedError("no result, or too large a one")
        metas_args, metas_words = tree_map(_meta, (list(args), kwargs))
        inputs, attrs = split_arguments(name, schema, metas_args, metas_words)
        single = isinstance(result, torch.Tensor)
        outputs = [
            meta_of(name if single else f"{name}_{i}", t, name, i) for i, t in enumerate(tensors)
        ]
        node = IRNode(name, op_type, [_copy(m) for m in inputs], outputs, attrs)
        self._check(node)
        self.nodes.append(node)
        self.read |= {meta.name for meta in inputs}
        self._note_memory(
            op_type, [t for t in tree_leaves(operands) if torch.is_tensor(t)], tensors
        )
        if single:
            return [self._value(Value(outputs[0], tensors[0]))]
        found = []
        for index, tensor in enumerate(tensors[:1] if self._only_first(op_type) else tensors):
            item = self._name("getitem")
            meta = meta_of(item, tensor, item)
            reads = [_copy(m) for m in outputs]
            self.nodes.append(IRNode(item, GETITEM, reads, [meta], {"index": index}))
            found.append(self._value(Value(meta, tensor)))
        return found

    def _note_memory(
        self, op_type: str, operands: list[torch.Tensor], results: list[torch.Tensor]
    ) -> None:
        known = {_address(tensor) for tensor in operands}
        if op_type.split(".")[1] in MAY_COPY and known & (self._strided | self._unclear):
            self._unclear |= known | {_address(tensor) for tensor in results}
        self._strided |= {
            _address(t) for t in results if _address(t) not in known and not t.is_contiguous()
        }

    @staticmethod
    def _only_first(op_type: str) -> bool:
        record = find_op(op_type)
        return record is not None and record.single_output

    def _check(self, node: IRNode) -> None:
        """RejectedError where the NPU refuses the node; anything else that it says is a bug."""
        known = {value.meta.name: value for value in self.values}
        read = [known[m.name] for m in {m.name: m for m in node.inputs}.values()]
        ir = _ir(read, [node], node.outputs[:1])
        try:
            violations = check_constraints(load_ir_from_dict(ir.to_dict()))
        except (CompilerError, TorchIRError) as error:
            raise RejectedError(f"reader: {error}") from error
        if violations:
            raise RejectedError(violations[0].reason)

    def call_in_place(self, op_type: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Value:
        """As ``call``, for an overload that writes to its first operand, which no input or weight
        shares memory with. ``undo`` takes back what it has written."""
        target = args[0]
        if not isinstance(target, Value):
            raise RejectedError("it writes to no tensor of the graph")
        shared = [v for v in self.values if _memory(v) == _memory(target)]
        if any(v.kind != "node" for v in shared):
            raise RejectedError("it would write to an input or a weight")
        tensor, before, exact = target.tensor, target.tensor.clone(), [v.exact for v in shared]

        if _address(tensor) in self._unclear:
            raise RejectedError("what shares memory with it depends on strides that no IR has")
        if _overlaps(tensor):
            raise RejectedError("its elements share memory with each other")

        def undo() -> None:
            tensor.copy_(before)
            for value, was in zip(shared, exact, strict=True):
                value.exact = was

        self.undo = undo
        (result,) = self.call(op_type, args, kwargs)
        for value in shared:
            value.was_exact = value.was_exact or value.exact
            value.exact = "float" not in value.dtype
        return result

    def case(self, outputs: Sequence[Value]) -> Case:
        """The graph that returns ``outputs``; what they do not need stays in it."""
        ir = _ir(
            [v for v in self.values if v.kind != "node"], self.nodes, [v.meta for v in outputs]
        )
        return Case(
            ir,
            {v.meta.name: v.tensor for v in self.values if v.kind == "input"},
            {v.meta.name: v.tensor for v in self.values if v.kind == "weight"},
            {v.meta.name for v in self.values if v.exact or v.was_exact},
        )


def _ir(values: Sequence[Value], nodes: Sequence[IRNode], outputs: Sequence[TensorMeta]) -> IR:
    weights = [v for v in values if v.kind == "weight"]
    return IR(
        model_name="fuzz",
        pytorch_version=torch.__version__,
        graph_inputs=[
            TensorMeta(v.meta.name, v.shape, v.dtype) for v in values if v not in weights
        ],
        graph_outputs=[TensorMeta(m.name, m.shape, m.dtype) for m in outputs],
        weights=[TensorMeta(v.meta.name, v.shape, v.dtype) for v in weights],
        weight_name_mapping={v.meta.name: v.meta.name for v in weights},
        nodes=list(nodes),
    )


def meta_of(
    name: str, tensor: torch.Tensor, producer: str | None = None, index: int = 0
) -> TensorMeta:
    """How the IR describes a tensor."""
    place = None if producer is None else index
    return TensorMeta(name, tuple(tensor.shape), dtype_name(tensor.dtype), producer, place)


def _copy(meta: TensorMeta) -> TensorMeta:
    return TensorMeta(
        meta.name, meta.shape, meta.dtype, meta.producer_node, meta.producer_output_idx
    )


def _overlaps(tensor: torch.Tensor) -> bool:
    """Whether elements may share memory; PyTorch itself only notices broadcasts."""
    axes = sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1)
    reach = 0
    for stride, size in axes:
        if stride <= reach:
            return True
        reach += stride * (size - 1)
    return False


def _address(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())


def _memory(value: Value) -> int:
    return _address(value.tensor)


def _tensor(leaf: Any) -> Any:
    return leaf.tensor if isinstance(leaf, Value) else leaf


def _meta(leaf: Any) -> Any:
    return leaf.meta if isinstance(leaf, Value) else leaf
