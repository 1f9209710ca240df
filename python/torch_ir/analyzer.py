"""Reads an exported program: its inputs, outputs, weights, constants and operator calls."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import (
    ConstantArgument,
    CustomObjArgument,
    InputKind,
    OutputKind,
    TensorArgument,
)

from .binding import split_arguments
from .control_flow import batched
from .errors import ConversionError
from .inline import FlatCall, GraphFlattener, tensor_meta
from .ir import GETITEM, STRIDES, TensorMeta
from .schema import read_schema
from .signature import describe_signature

__all__ = ["GraphAnalyzer", "NodeInfo"]

_MUTATIONS = ("BUFFER_MUTATION", "PARAMETER_MUTATION", "USER_INPUT_MUTATION")
_WEIGHTS = (InputKind.PARAMETER, InputKind.BUFFER)


@dataclass(slots=True)
class NodeInfo:
    """One operator call of an exported program, higher-order regions already inlined.

    Attributes:
        op: the kind of graph node, always ``"call_function"``.
        target: the ``OpOverload``, or ``operator.getitem``.
        args, kwargs: the arguments, with a `TensorMeta` in the place of each tensor.
        input_metas, attrs: the same arguments, split as an IR node has them.
        output_metas: the tensors that the call returns.
        source: module path and file:line, where known.
    """

    name: str
    op: str
    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    input_metas: list[TensorMeta]
    output_metas: list[TensorMeta]
    attrs: dict[str, Any] = field(default_factory=dict)
    source: dict[str, str] | None = None

    @property
    def op_type(self) -> str:
        """Name of the operator in the IR, e.g. ``"aten.conv2d.default"``."""
        return GETITEM if self.target is operator.getitem else read_schema(self.target).op_type


class GraphAnalyzer:
    """Extracts the parts of an IR from a ``torch.export.ExportedProgram``.

    Raises:
        ConversionError: (from any method) the program cannot be represented; the message names the
            node, and the dimension where a shape is dynamic.
    """

    def __init__(self, exported: ExportedProgram) -> None:
        if not isinstance(exported, ExportedProgram):
            raise ConversionError(
                f"expected a torch.export.ExportedProgram, found {type(exported).__name__}; call "
                "export_model first"
            )
        self._exported = batched(exported)
        self._constants: dict[str, torch.Tensor] = {}

    def get_graph_inputs(self) -> list[TensorMeta]:
        """Return the tensors that the caller passes, in order."""
        return [
            _plain(self._placeholders[spec.arg.name])
            for spec in self._exported.graph_signature.input_specs
            if spec.kind is InputKind.USER_INPUT and isinstance(spec.arg, TensorArgument)
        ]

    def get_graph_outputs(self) -> list[TensorMeta]:
        """Return the tensors that the model returns, in order, one returned twice listed twice."""
        return [_plain(item) for item in self._user_outputs if isinstance(item, TensorMeta)]

    def get_weights(self) -> list[TensorMeta]:
        """Return parameters and buffers by ``state_dict`` key, without those kept as constants."""
        constants = self.get_constants()
        return [
            TensorMeta(target, meta.shape, meta.dtype)
            for name, target in self._weight_targets.items()
            if target not in constants
            for meta in [self._placeholders[name]]
        ]

    def get_weight_name_mapping(self) -> dict[str, str]:
        """Return placeholder name -> ``state_dict`` key, or constant name for a lifted constant."""
        mapping = dict(self._weight_targets)
        for spec in self._exported.graph_signature.input_specs:
            if spec.kind is InputKind.CONSTANT_TENSOR and spec.target is not None:
                mapping[spec.arg.name] = spec.target
        # Flattening finds the constants that lie inside wrapped regions.
        _ = self._flat
        for name in self._constants:
            mapping.setdefault(name, name)
        return mapping

    def get_constants(self) -> dict[str, torch.Tensor]:
        """Return the tensors whose values belong to the graph, by name.

        Those are lifted constants and non-persistent buffers, unless they have no value (meta
        model).
        """
        _ = self._flat
        found = dict(self._constants)
        for spec in self._exported.graph_signature.input_specs:
            if spec.target is None or spec.kind not in (*_WEIGHTS, InputKind.CONSTANT_TENSOR):
                continue
            value = self._exported.constants.get(spec.target)
            if isinstance(value, torch.Tensor) and _has_value(value):
                found[spec.target] = value.detach()
        return found

    def get_tied_weights(self) -> dict[str, str]:
        """Return ``state_dict`` key -> the earlier key that names the same tensor."""
        first: dict[int, str] = {}
        tied: dict[str, str] = {}
        state = self._exported.state_dict
        for target in self._weight_targets.values():
            if target in state:
                earlier = first.setdefault(id(state[target]), target)
                if earlier != target:
                    tied[target] = earlier
        return tied

    def get_overlapping(self) -> dict[str, list[str]]:
        """Return placeholder -> the others that lie in the same memory without being the same
        tensor, such as a buffer that is a view of another one.
        """
        values = {**self._exported.constants, **self._exported.state_dict}
        groups: dict[int, dict[str, int]] = {}
        for name, target in self.get_weight_name_mapping().items():
            value = values.get(target)
            if isinstance(value, torch.Tensor) and value.layout is torch.strided:
                memory = groups.setdefault(value.untyped_storage()._cdata, {})
                memory[name] = id(value)
        return {
            name: [other for other in group if group[other] != identity]
            for group in groups.values()
            if len(set(group.values())) > 1
            for name, identity in group.items()
        }

    def get_signature(self) -> dict[str, Any] | None:
        """Return how the model is called, where that is more than a row of tensors. See `IR`."""
        specs = self._exported.graph_signature.input_specs
        inputs: list[Any] = []
        for spec in specs:
            if spec.kind is InputKind.USER_INPUT:
                arg = spec.arg
                known = isinstance(arg, TensorArgument)
                inputs.append(self._placeholders[arg.name] if known else _constant(arg))
        call = self._exported.call_spec
        return describe_signature(call.in_spec, inputs, call.out_spec, self._user_outputs)

    def get_call_function_nodes(self) -> list[NodeInfo]:
        """Return the operator calls in execution order."""
        calls = self._flat[0]
        infos = [self._node_info(call) for call in calls]
        if any(_writes(call.target) for call in calls):
            # Only then it matters which results are views and which are copies.
            for call, info in zip(calls, infos, strict=True):
                if any(strides is not None for strides in call.strides):
                    info.attrs[STRIDES] = call.strides
        return infos

    def _node_info(self, call: FlatCall) -> NodeInfo:
        if call.target is operator.getitem:
            inputs, attrs = list(call.args[0]), {"index": call.args[1]}
        else:
            schema = read_schema(call.target)
            inputs, attrs = split_arguments(call.name, schema, call.args, call.kwargs)
        return NodeInfo(
            name=call.name,
            op="call_function",
            target=call.target,
            args=call.args,
            kwargs=call.kwargs,
            input_metas=[replace(tensor) for tensor in inputs],
            output_metas=[_plain(tensor) for tensor in call.outputs],
            attrs=attrs,
            source=call.source,
        )

    @cached_property
    def _weight_targets(self) -> dict[str, str]:
        return {
            spec.arg.name: spec.target
            for spec in self._exported.graph_signature.input_specs
            if spec.kind in _WEIGHTS and spec.target is not None
        }

    @cached_property
    def _placeholder_values(self) -> dict[str, Any]:
        graph = self._exported.graph_module.graph
        return {n.name: n.meta.get("val") for n in graph.nodes if n.op == "placeholder"}

    @cached_property
    def _placeholders(self) -> dict[str, TensorMeta]:
        """Every tensor placeholder; a graph input is its own producer."""
        metas: dict[str, TensorMeta] = {}
        for spec in self._exported.graph_signature.input_specs:
            if spec.kind in (InputKind.CUSTOM_OBJ, InputKind.TOKEN):
                raise ConversionError(
                    f"input {spec.arg.name!r} is a {spec.kind.name.lower()}, not a tensor; models "
                    "with script objects or effect tokens cannot be represented"
                )
            name = spec.arg.name
            value = self._placeholder_values[name]
            if isinstance(spec.arg, TensorArgument):
                producer = name if spec.kind is InputKind.USER_INPUT else None
                metas[name] = tensor_meta(name, value, producer)
            elif isinstance(spec.arg, CustomObjArgument):
                raise ConversionError(
                    f"input {name!r} is a {spec.arg.class_fqn}; only tensors and plain Python "
                    "values can be passed, so keep the object in the model"
                )
            elif not isinstance(spec.arg, ConstantArgument):
                raise ConversionError(
                    f"input {name!r} is a dynamic {type(spec.arg).__name__} ({value}); only static "
                    "shapes are supported, so pass a plain number and export without "
                    "dynamic_shapes"
                )
        return metas

    @cached_property
    def _flat(self) -> tuple[list[FlatCall], list[Any]]:
        """The operator calls and the flat row of everything the graph returns."""
        specs = self._exported.graph_signature.input_specs
        flattener = GraphFlattener(self._add_constant, used_names=set(self._placeholder_values))
        feeds: list[Any] = []
        for spec in specs:
            if isinstance(spec.arg, TensorArgument):
                feeds.append(self._placeholders[spec.arg.name])
                flattener.values[spec.arg.name] = self._placeholder_values[spec.arg.name]
            else:
                _ = self._placeholders  # refuses dynamic and object inputs
                feeds.append(_constant(spec.arg))
        results = list(flattener.run(self._exported.graph_module, feeds))
        self._write_back(flattener, results)
        return flattener.calls, results

    def _write_back(self, flattener: GraphFlattener, results: list[Any]) -> None:
        """Show the buffer updates that a functionalised program returns as in-place copies."""
        inputs = {
            spec.target: spec.arg.name
            for spec in self._exported.graph_signature.input_specs
            if spec.target is not None
        }
        for spec, value in zip(self._exported.graph_signature.output_specs, results, strict=True):
            if spec.kind.name in _MUTATIONS and spec.target is not None:
                name = inputs.get(spec.target, spec.target)
                flattener.copy_into(self._placeholders[name], value)

    @cached_property
    def _user_outputs(self) -> list[Any]:
        """What the model returns, flat: a `TensorMeta` or a constant for each leaf."""
        specs = self._exported.graph_signature.output_specs
        return [
            _constant(spec.arg) if isinstance(spec.arg, ConstantArgument) else value
            for spec, value in zip(specs, self._flat[1], strict=True)
            if spec.kind is OutputKind.USER_OUTPUT
        ]

    @property
    def _add_constant(self) -> Callable[[str, torch.Tensor], TensorMeta]:
        def add(name: str, value: torch.Tensor) -> TensorMeta:
            if not _has_value(value):
                raise ConversionError(
                    f"constant {name!r} has no value because the model is on the meta device; "
                    "register it as a buffer or create it inside forward"
                )
            unique, count = f"c_{name}", 0
            while unique in self._constants or unique in self._placeholder_values:
                count += 1
                unique = f"c_{name}_{count}"
            self._constants[unique] = value.detach()
            return tensor_meta(unique, value)

        return add


def _plain(tensor: TensorMeta) -> TensorMeta:
    """Return a copy without the producer, which only node inputs carry."""
    return TensorMeta(tensor.name, tensor.shape, tensor.dtype)


def _writes(target: Any) -> bool:
    return target is not operator.getitem and bool(read_schema(target).written)


def _has_value(tensor: torch.Tensor) -> bool:
    return not tensor.is_meta and not isinstance(tensor, torch._subclasses.FakeTensor)


def _constant(arg: Any) -> Any:
    value = getattr(arg, "value", None)
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        return value
    raise ConversionError(
        f"input or output {getattr(arg, 'name', '?')!r} is {value!r}; only tensors and plain "
        "Python values can be represented"
    )
