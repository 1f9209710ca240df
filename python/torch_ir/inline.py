"""Flattens an exported graph: operator calls in order, with higher-order regions inlined.

``torch.export`` wraps the body of ``with torch.no_grad()`` or ``torch.autocast(...)`` into a
sub-graph. The IR has no regions, so their bodies are spliced into the caller: a grad region means
nothing for inference, an autocast region becomes explicit casts (see `torch_ir.autocast`), branches
and loops of fixed length are unrolled (see `torch_ir.control_flow`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves, tree_map

from .attrs import dtype_name
from .autocast import AutocastCall, AutocastRegion
from .control_flow import flatten_control_flow
from .errors import ConversionError
from .ir import TensorMeta
from .plan import result_tensors
from .runtime_checks import check_step, refuse_numbers
from .source import source_of

__all__ = ["FlatCall", "GraphFlattener", "MultiOutput", "tensor_meta"]

# Higher-order operators that only wrap a body: position of the body among the arguments.
_WRAPPERS = {
    "wrap": 0,
    "tag_activation_checkpoint": 0,
    "wrap_activation_checkpoint": 0,
    "wrap_with_set_grad_enabled": 1,
    "wrap_with_autocast": 4,
}


@dataclass(slots=True)
class MultiOutput:
    """What a node with several results returned; ``tensors`` are the outputs of the IR node.

    An item is a tensor, a list of tensors, or None where a result is neither.
    """

    items: list[Any]
    tensors: list[TensorMeta]


@dataclass(slots=True)
class FlatCall:
    """One call of an operator; tensors in ``args`` and ``kwargs`` are `TensorMeta`. ``strides``:
    those of the outputs, None where they are row-major.
    """

    name: str
    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[TensorMeta]
    source: dict[str, str] | None = None
    strides: list[list[int] | None] = field(default_factory=list)


def tensor_meta(name: str, value: torch.Tensor, producer: str | None = None) -> TensorMeta:
    """Describe a traced tensor.

    Raises:
        ConversionError: a dimension is symbolic, or the tensor is sparse or otherwise not strided.
    """
    for index, size in enumerate(value.shape):
        if not isinstance(size, int):
            raise ConversionError(
                f"tensor {name!r}: dimension {index} is dynamic ({size}); only static shapes are "
                "supported, so export without dynamic_shapes and avoid operators whose result "
                "size depends on data"
            )
    if value.layout is not torch.strided:
        raise ConversionError(
            f"tensor {name!r}: layout {value.layout} is not supported; convert it to a dense "
            "tensor first"
        )
    return TensorMeta(
        name,
        tuple(value.shape),
        dtype_name(value.dtype),
        producer,
        None if producer is None else 0,
    )


@dataclass
class GraphFlattener:
    """Walks a graph module and its wrapped bodies, collecting the operator calls."""

    add_constant: Callable[[str, torch.Tensor], TensorMeta]
    used_names: set[str] = field(default_factory=set)
    calls: list[FlatCall] = field(default_factory=list)
    values: dict[str, torch.Tensor] = field(default_factory=dict)
    attributes: dict[int, TensorMeta] = field(default_factory=dict)
    has_numbers: bool = False

    def run(
        self,
        module: GraphModule,
        inputs: Iterable[Any],
        region: AutocastRegion | None = None,
    ) -> Any:
        """Collect the calls of ``module`` given its inputs' stand-ins; return its result."""
        env: dict[Node, Any] = {}
        feeds = iter(inputs)
        for node in module.graph.nodes:
            if node.op == "placeholder":
                env[node] = next(feeds)
            elif node.op == "get_attr":
                env[node] = self._attribute(module, node)
            elif node.op == "output":
                results = _resolve(node.args[0], env)
                self._refuse_numbers(node, results)
                return results
            elif node.op == "call_function":
                args = _resolve(node.args, env)
                env[node] = self._call(node, args, _resolve(node.kwargs, env), region)
            else:
                raise ConversionError(
                    f"node {node.name!r}: unexpected graph operation {node.op!r}; convert a "
                    "program that torch.export made"
                )
        return ()

    def _attribute(self, module: GraphModule, node: Node) -> Any:
        value: Any = module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        if not isinstance(value, torch.Tensor):
            return value
        if id(value) not in self.attributes:
            # Once, however often the body of a loop is run.
            self.attributes[id(value)] = self.add_constant(node.name, value)
        return self.attributes[id(value)]

    def _call(
        self,
        node: Node,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        region: AutocastRegion | None,
    ) -> Any:
        target = node.target
        if isinstance(target, torch._ops.HigherOrderOperator):
            return self._inline(node, target, args, kwargs, region)
        if target is operator.getitem:
            container, index = args
            if isinstance(container, MultiOutput):
                return self._getitem(node, container, index)
            if isinstance(container, (list, tuple)):
                return container[index]
            raise ConversionError(
                f"node {node.name!r}: picks an item of {container!r}, which is not a list of "
                "tensors that the export describes"
            )
        if target is torch.ops.aten._assert_tensor_metadata.default:
            # It states a fact about a tensor that the IR's shapes and dtypes state already.
            return None

        def emit(func: Any, arguments: tuple[Any, ...]) -> list[TensorMeta]:
            result = None
            if func._schema.returns:
                # A comparison of one element with a number.
                result = torch.empty_like(self.values[arguments[0].name], dtype=torch.bool)
            return self.add(node, node.name, func, arguments, {}, result)

        is_check, stand_in = check_step(node.name, target, args, emit)
        if is_check:
            self.has_numbers = True
            return stand_in
        self._refuse_numbers(node, (args, kwargs))
        if not isinstance(target, torch._ops.OpOverload):
            raise ConversionError(
                f"node {node.name!r}: {target!r} computes on sizes or Python values at run time; "
                "only tensor operators with static shapes can be represented"
            )
        if region is not None and region.enabled:
            return self._autocast(node, target, args, kwargs, region)
        return self._emit(node, target, args, kwargs)

    def _refuse_numbers(self, node: Node, values: Any) -> None:
        if self.has_numbers:
            refuse_numbers(node.name, values)

    def _inline(
        self,
        node: Node,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        region: AutocastRegion | None,
    ) -> Any:
        kind = target.name()
        flat = flatten_control_flow(self, node, args, region)
        if flat is not None:
            return flat
        position = _WRAPPERS.get(kind)
        if position is None or not isinstance(args[position], GraphModule):
            raise ConversionError(
                f"node {node.name!r}: higher-order operator {kind!r} has control flow or a custom "
                "body that a flat graph cannot represent; rewrite it with tensor operators such "
                "as torch.where, or with a loop of fixed length"
            )
        if kind == "wrap_with_autocast":
            device, dtype, enabled = args[0], args[1], args[2]
            region = AutocastRegion(str(device), dtype, bool(enabled))
        return self.run(args[position], args[position + 1 :], region)

    def _autocast(
        self,
        node: Node,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        region: AutocastRegion,
    ) -> Any:
        """Emit a call with the casts that autocast makes, or the operators it is made of."""
        call = AutocastCall.watch(target, (args, kwargs), self.values, region)
        casts = call.casts()
        if casts is None:

            def emit(func: Any, arguments: Any, result: Any) -> list[TensorMeta]:
                part = f"{node.name}_part"
                return self.add(node, part, func, arguments[0], arguments[1], result)

            return call.expand(emit)

        positions = iter(range(len(tree_leaves((args, kwargs)))))

        def cast(leaf: Any) -> Any:
            dtype = casts.get(next(positions))
            if dtype is None:
                return leaf
            name = f"{leaf.name}_{dtype_name(dtype)}"
            value = self.values[leaf.name].to(dtype)
            return self.add(node, name, torch.ops.aten.to.dtype, (leaf, dtype), {}, value)[0]

        new_args, new_kwargs = tree_map(cast, (args, kwargs))
        return self._emit(node, target, new_args, new_kwargs)

    def _getitem(self, node: Node, container: MultiOutput, index: int) -> Any:
        picked = container.items[index]
        if not isinstance(picked, TensorMeta):
            return picked
        tensors = container.tensors
        args = (tensors, tensors.index(picked))
        value = self.values[picked.name]
        return self.add(node, node.name, operator.getitem, args, {}, value)[0]

    def _emit(self, node: Node, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = node.meta.get("val")
        if value is not None and not isinstance(value, (torch.Tensor, list, tuple)):
            raise ConversionError(
                f"node {node.name!r}: {target} returns {value!r}, a number known only at run time; "
                "only tensor results are supported, so keep the value in a tensor instead of "
                "calling item()"
            )
        outputs = self.add(node, node.name, target, args, kwargs, value)
        if isinstance(value, (list, tuple)):
            return MultiOutput(_shaped_like(value, iter(outputs)), outputs)
        return outputs[0] if outputs else None

    def copy_into(self, target: TensorMeta, value: TensorMeta) -> None:
        """Add a node that copies a result over an input or a buffer."""
        copy = torch.ops.aten.copy_.default
        result = self.values[target.name]
        self.add(None, f"copy_{target.name}", copy, (target, value), {}, result)

    def add(
        self,
        node: Node | None,
        wanted: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        value: Any,
    ) -> list[TensorMeta]:
        """Add a call and name its results: one like the node, several ``name_0``, ``name_1``, ...

        Args:
            node: the graph node that it comes from.
            wanted: the name of the call, changed where it is taken.
            value: the traced result.
        """
        tensors = result_tensors(value)
        several = len(tensors) > 1
        suffixes = [f"_{index}" for index in range(len(tensors))] if several else [""]
        name = self._unique(wanted, suffixes)
        outputs = []
        for index, tensor in enumerate(tensors):
            meta = tensor_meta(name + suffixes[index], tensor, name)
            meta.producer_output_idx = index
            self.values[meta.name] = tensor
            outputs.append(meta)
        source = None if node is None else source_of(node)
        strides = [None if t.is_contiguous() else list(t.stride()) for t in tensors]
        self.calls.append(FlatCall(name, target, args, kwargs, outputs, source, strides))
        return outputs

    def _unique(self, wanted: str, suffixes: list[str]) -> str:
        name, count = wanted, 0
        while not self.used_names.isdisjoint([name, *(name + suffix for suffix in suffixes)]):
            count += 1
            name = f"{wanted}_{count}"
        self.used_names.update([name, *(name + suffix for suffix in suffixes)])
        return name


def _shaped_like(value: Any, outputs: Iterator[TensorMeta]) -> Any:
    """Put output descriptions in the places of the tensors of a traced result."""
    if isinstance(value, torch.Tensor):
        return next(outputs)
    if isinstance(value, (list, tuple)):
        return [_shaped_like(item, outputs) for item in value]
    return None


def _resolve(value: Any, env: dict[Node, Any]) -> Any:
    """Replace graph nodes in an argument structure by what they stand for."""
    if isinstance(value, Node):
        return env[value]
    if isinstance(value, (list, tuple)):
        items = [_resolve(item, env) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict):
        return {key: _resolve(item, env) for key, item in value.items()}
    return value
