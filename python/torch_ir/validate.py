"""Checks that an IR keeps the rules of the format; the first broken rule is reported with its
node."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .attrs import dtype_from_name
from .binding import bind_arguments
from .errors import SerializationError, ValidationError
from .ir import GETITEM, IR, IRNode, TensorMeta
from .registry import is_registered
from .schema import op_schema

__all__ = ["validate_ir"]

_MAX_ELEMENTS = 2**48


def validate_ir(ir: IR, check_shapes: bool = False) -> bool:
    """Check an IR: names, producers, order, shapes, dtypes, operators and their operands.

    Args:
        check_shapes: also derive every node's output shapes and dtypes anew with fake tensors and
            compare.

    Returns:
        True.

    Raises:
        ValidationError: a rule is broken; the message names the node or tensor, the rule and the
            value found.
    """
    if not isinstance(ir, IR):
        raise ValidationError(
            f"expected an IR, found {type(ir).__name__}; use dict_to_ir or load_ir"
        )
    known = _check_placeholders(ir)
    producers = {node.name: node for node in ir.nodes}
    seen_nodes: set[str] = set()
    for node in ir.nodes:
        if not node.name:
            raise ValidationError(f"a node of type {node.op_type!r} has an empty name")
        if node.name in seen_nodes:
            raise ValidationError(f"node {node.name!r}: two nodes have this name")
        seen_nodes.add(node.name)
        _check_inputs(ir, node, known, producers)
        _check_operator(node)
        for index, tensor in enumerate(node.outputs):
            _check_tensor(f"node {node.name!r}: output", tensor)
            if tensor.name in known:
                raise ValidationError(
                    f"node {node.name!r}: output name {tensor.name!r} is already taken; names must "
                    "be unique"
                )
            known[tensor.name] = TensorMeta(
                tensor.name, tuple(tensor.shape), tensor.dtype, node.name, index
            )
    _check_outputs(ir, known)
    _check_signature(ir)
    if check_shapes:
        from .aliasing import check_shapes as derive_shapes

        derive_shapes(ir)
    return True


def _check_tensor(where: str, tensor: TensorMeta) -> None:
    if not tensor.name:
        raise ValidationError(f"{where} has an empty name")
    for index, size in enumerate(tensor.shape):
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ValidationError(
                f"{where} {tensor.name!r}: dimension {index} is {size!r}; sizes must be integers "
                ">= 0"
            )
    if math.prod(tensor.shape) > _MAX_ELEMENTS or max(tensor.shape, default=0) > _MAX_ELEMENTS:
        raise ValidationError(
            f"{where} {tensor.name!r}: shape {list(tensor.shape)} has more elements than any memory"
        )
    try:
        dtype_from_name(tensor.dtype)
    except SerializationError as error:
        raise ValidationError(f"{where} {tensor.name!r}: {error}") from error


def _unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValidationError(f"{what} {name!r} is listed twice; names must be unique")
        seen.add(name)


def _check_placeholders(ir: IR) -> dict[str, TensorMeta]:
    """Check inputs, weights and constants; return every tensor known before the first node."""
    for what, tensors in (("graph input", ir.graph_inputs), ("weight", ir.weights)):
        for tensor in tensors:
            _check_tensor(what, tensor)
        _unique(what, (tensor.name for tensor in tensors))
    known = {
        tensor.name: TensorMeta(tensor.name, tuple(tensor.shape), tensor.dtype, tensor.name, 0)
        for tensor in ir.graph_inputs
    }
    by_key = {weight.name: (tuple(weight.shape), weight.dtype) for weight in ir.weights}
    for name, value in ir.constants.items():
        if name in by_key:
            raise ValidationError(f"constant {name!r}: a weight has the same name")
        by_key[name] = (tuple(value.shape), str(value.dtype).removeprefix("torch."))
    for placeholder, key in ir.weight_name_mapping.items():
        if placeholder in known:
            raise ValidationError(f"weight placeholder {placeholder!r}: an input has this name")
        if key not in by_key:
            raise ValidationError(
                f"weight placeholder {placeholder!r} stands for {key!r}, which is neither in "
                "weights nor in constants"
            )
        known[placeholder] = TensorMeta(placeholder, *by_key[key])
    for key, first in ir.tied_weights.items():
        if by_key.get(key) is None or by_key.get(key) != by_key.get(first):
            raise ValidationError(
                f"tied weight {key!r}: {first!r} is not a weight of the same shape and dtype"
            )
    return known


def _check_inputs(
    ir: IR, node: IRNode, known: dict[str, TensorMeta], producers: dict[str, IRNode]
) -> None:
    for index, tensor in enumerate(node.inputs):
        where = f"node {node.name!r}: input {index} ({tensor.name!r})"
        source = known.get(tensor.name)
        if source is None:
            raise ValidationError(f"{where} {_why_unknown(ir, node, tensor, producers)}")
        if (tuple(tensor.shape), tensor.dtype) != (source.shape, source.dtype):
            raise ValidationError(
                f"{where} is {tensor.dtype} {list(tensor.shape)}, but its producer makes "
                f"{source.dtype} {list(source.shape)}"
            )
        found = (tensor.producer_node, tensor.producer_output_idx)
        if found != (source.producer_node, source.producer_output_idx):
            raise ValidationError(
                f"{where} names producer {found[0]!r} output {found[1]}, but the tensor comes from "
                f"{source.producer_node!r} output {source.producer_output_idx}"
            )


def _why_unknown(ir: IR, node: IRNode, tensor: TensorMeta, producers: dict[str, IRNode]) -> str:
    maker = next((n for n in ir.nodes if any(t.name == tensor.name for t in n.outputs)), None)
    if maker is None:
        return "has no producer: no graph input, weight, constant or node output has this name" + (
            ""
            if tensor.producer_node in (None, *producers)
            else f" (no node {tensor.producer_node!r})"
        )
    if _reaches(maker, node, ir):
        return f"is part of a cycle: node {maker.name!r} needs the result of {node.name!r}"
    return f"is used before node {maker.name!r} makes it; nodes must be in execution order"


def _reaches(start: IRNode, goal: IRNode, ir: IR) -> bool:
    """Whether ``start`` needs, directly or not, a result of ``goal``."""
    makers = {tensor.name: node for node in ir.nodes for tensor in node.outputs}
    pending, visited = [start], set()
    while pending:
        node = pending.pop()
        if node is goal:
            return True
        if id(node) not in visited:
            visited.add(id(node))
            pending += [makers[t.name] for t in node.inputs if t.name in makers]
    return False


def _check_operator(node: IRNode) -> None:
    if node.op_type == GETITEM:
        _check_getitem(node)
        return
    if is_registered(node.op_type):
        return
    try:
        schema = op_schema(node.op_type)
        bind_arguments(node.name, schema, len(node.inputs), node.attrs)
    except ValidationError as error:
        prefix = "" if str(error).startswith("node ") else f"node {node.name!r}: "
        raise ValidationError(f"{prefix}{error}") from error
    except SerializationError as error:
        raise ValidationError(str(error)) from error
    count = len(node.outputs)
    if not schema.returns_list and count > len(schema.returns):
        raise ValidationError(
            f"node {node.name!r}: {node.op_type} returns {len(schema.returns)} values, but the "
            f"node lists {count} outputs"
        )


def _check_getitem(node: IRNode) -> None:
    index = node.attrs.get("index")
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(node.inputs):
        raise ValidationError(
            f"node {node.name!r}: getitem index {index!r} must be a number below "
            f"{len(node.inputs)}, the number of its inputs"
        )
    if len(node.outputs) != 1:
        raise ValidationError(
            f"node {node.name!r}: getitem has one output, found {len(node.outputs)}"
        )
    picked, output = node.inputs[index], node.outputs[0]
    if (tuple(picked.shape), picked.dtype) != (tuple(output.shape), output.dtype):
        raise ValidationError(
            f"node {node.name!r}: getitem output is {output.dtype} {list(output.shape)}, but it "
            f"picks {picked.dtype} {list(picked.shape)}"
        )


def _check_outputs(ir: IR, known: dict[str, TensorMeta]) -> None:
    for tensor in ir.graph_outputs:
        _check_tensor("graph output", tensor)
        source = known.get(tensor.name)
        if source is None:
            raise ValidationError(
                f"graph output {tensor.name!r} has no producer: no node, input or weight has this "
                "name"
            )
        if (tuple(tensor.shape), tensor.dtype) != (source.shape, source.dtype):
            raise ValidationError(
                f"graph output {tensor.name!r} is {tensor.dtype} {list(tensor.shape)}, but its "
                f"producer makes {source.dtype} {list(source.shape)}"
            )


def _check_signature(ir: IR) -> None:
    if ir.signature is None:
        return
    for side, tensors in (("inputs", ir.graph_inputs), ("outputs", ir.graph_outputs)):
        named = [entry["name"] for entry in ir.signature[side] if "name" in entry]
        if named != [tensor.name for tensor in tensors]:
            raise ValidationError(
                f"signature {side} name the tensors {named}, but the graph {side} are "
                f"{[tensor.name for tensor in tensors]}"
            )
