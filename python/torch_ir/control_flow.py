"""Flattens the control flow that torch.export keeps as sub-graphs, where its extent is static.

`torch.cond` becomes both of its branches and a choice between their results, loops over a known
number of elements (`map`, `scan`) are unrolled, a `torch.vmap` becomes batched operators. A
`while_loop` has no flat form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from .errors import ConversionError
from .ir import TensorMeta

if TYPE_CHECKING:
    from .autocast import AutocastRegion
    from .inline import GraphFlattener

__all__ = ["batched", "flatten_control_flow"]

_ATEN = torch.ops.aten


def batched(exported: ExportedProgram) -> ExportedProgram:
    """Return a program in which the operators inside a `torch.vmap` are batched ones.

    The export records them for a single element, between calls that open and close the batch.
    """
    for module in exported.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            if getattr(node.target, "__module__", "") == "torch._functorch.predispatch":
                try:
                    result: ExportedProgram = exported.run_decompositions({})
                except Exception as error:
                    raise ConversionError(
                        f"node {node.name!r}: a function transform of torch.func cannot be "
                        f"flattened ({str(error).strip().splitlines()[0]}); only torch.vmap can"
                    ) from error
                return result
    return exported


def flatten_control_flow(
    flattener: GraphFlattener,
    node: Node,
    args: tuple[Any, ...],
    region: AutocastRegion | None,
) -> list[Any] | None:
    """Add the operators that compute what a higher-order operator returns.

    Args:
        node: the call of the higher-order operator.
        args: its arguments, tensors as `TensorMeta`.
        region: the autocast region around it.

    Returns:
        Its results, or None where it is an operator that has no flat form.

    Raises:
        ConversionError: a branch of a ``cond`` may not be run when it is not chosen.
    """
    kind = str(node.target.name())  # type: ignore[union-attr]
    if kind == "cond":
        return _cond(flattener, node, args, region)
    if kind == "map_impl":
        body, items, fixed = args[:3]
        return _loop(flattener, node, body, [], items, fixed, region)
    if kind == "scan":
        body, carry, items, fixed = args[:4]
        return _loop(flattener, node, body, carry, items, fixed, region)
    return None


def _cond(
    flattener: GraphFlattener,
    node: Node,
    args: tuple[Any, ...],
    region: AutocastRegion | None,
) -> list[Any]:
    condition, on_true, on_false, operands = args[:4]
    if not isinstance(condition, TensorMeta):
        return list(flattener.run(on_true if condition else on_false, operands, region))
    for branch in (on_true, on_false):
        _refuse_effects(node, branch)
    chosen = list(flattener.run(on_true, operands, region))
    other = list(flattener.run(on_false, operands, region))
    if condition.shape:
        scalar = flattener.values[condition.name].reshape(())
        name = f"{node.name}_condition"
        (condition,) = flattener.add(node, name, _ATEN.reshape.default, (condition, []), {}, scalar)
    results: list[Any] = []
    for left, right, value in zip(chosen, other, node.meta["val"], strict=True):
        if isinstance(left, TensorMeta):
            where = _ATEN.where.self
            results += flattener.add(node, node.name, where, (condition, left, right), {}, value)
        else:
            results.append(left)
    return results


def _refuse_effects(node: Node, branch: GraphModule) -> None:
    """Refuse a branch that must not run unless it is chosen."""
    for call in branch.graph.nodes:
        target = call.target
        if not isinstance(target, torch._ops.OpOverload):
            continue
        random = torch.Tag.nondeterministic_seeded in target.tags
        if target._schema.is_mutable or random or "assert" in target._schema.name:
            raise ConversionError(
                f"node {node.name!r}: a flat graph runs both branches of a cond, but {call.name!r} "
                f"({target}) in one of them changes a tensor, draws random numbers or checks "
                "values; move it out of the branch"
            )


def _loop(
    flattener: GraphFlattener,
    node: Node,
    body: GraphModule,
    carry: Sequence[Any],
    items: Sequence[TensorMeta],
    fixed: Sequence[Any],
    region: AutocastRegion | None,
) -> list[Any]:
    """Run a body once per slice of ``items`` along dimension 0.

    The body takes the carry, the slices and ``fixed``; it returns the next carry and values, which
    are stacked.
    """
    traced = [n.meta.get("val") for n in body.graph.nodes if n.op == "placeholder"]
    carry, count = list(carry), len(carry)
    rows: list[list[TensorMeta]] = []
    for index in range(items[0].shape[0] if items else 0):
        slices: list[TensorMeta] = []
        for position, item in enumerate(items):
            slices += flattener.add(
                node,
                f"{node.name}_item",
                _ATEN.select.int,
                (item, 0, index),
                {},
                traced[count + position],
            )
        results = list(flattener.run(body, [*carry, *slices, *fixed], region))
        carry, row = results[:count], results[count:]
        rows.append(row)
    if not rows:
        raise ConversionError(f"node {node.name!r}: a loop over no elements cannot be unrolled")
    stacked: list[Any] = []
    for column, value in zip(zip(*rows, strict=True), node.meta["val"][count:], strict=True):
        args = (list(column),)
        stacked += flattener.add(node, node.name, _ATEN.stack.default, args, {}, value)
    return [*carry, *stacked]
