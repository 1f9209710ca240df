"""Attention masks that compare the places of keys with the positions of queries.

A decoder with a cache lets the query at position p see the keys 0 to p: its mask is ``arange(keys)
<= positions``, perhaps and-ed with ``arange(keys) > positions - window``, or its additive form.
Attention takes the positions instead, and the mask is not computed. (Where the lowest finite number
hides keys, a query that sees none gives zeros or NaN, not the mean of all values.)
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from npu_compiler.fusions.parts import ATTENTION, RESHAPE
from npu_compiler.graph import IRGraph, Node, Value
from npu_compiler.ops import find_op
from npu_compiler.ops.eager_attention import EAGER_ATTENTION
from npu_compiler.ops.index_checks import INDEX_DTYPES
from npu_compiler.ops.position_attention import POSITION_ATTENTION
from npu_compiler.passes.same_values import same_value

_AND = frozenset({"aten.bitwise_and.Tensor", "aten.logical_and.default", "aten.__and__.Tensor"})
_NOT = frozenset({"aten.logical_not.default", "aten.bitwise_not.default"})
_WHERE = frozenset(
    {
        "aten.where.self",
        "aten.where.Scalar",
        "aten.where.ScalarSelf",
        "aten.where.ScalarOther",
    }
)
_FILL = frozenset({"aten.masked_fill.Scalar", "aten.masked_fill.Tensor"})
_EXPAND = frozenset({"aten.expand.default"})
_UNSQUEEZE = frozenset({"aten.unsqueeze.default"})
_CAST = frozenset({"aten.to.dtype", "aten._to_copy.default", "aten.to.dtype_layout"})
_SAME_ORDER = frozenset({*RESHAPE.split(), "aten.squeeze.dim", *_UNSQUEEZE, *_CAST})
# Numbers up to here hide a key.
_LOWEST = {"float16": -65504.0, "bfloat16": -3.3e38, "float32": -3.4e38}
# key OP position as (negated, offset of the bound): key <= p, or not key <= p, for what p.
_COMPARE = {"le": (False, 0), "lt": (False, -1), "gt": (True, 0), "ge": (True, -1)}
_SWAPPED = {"le": "ge", "lt": "gt", "gt": "lt", "ge": "le"}


def hide_by_infinity(graph: IRGraph) -> None:
    """Scores that a mask of positions replaces by the lowest number of their dtype become -inf
    there: the same softmax for every query that sees a key, and a form that fuses.
    """
    found: dict[tuple[Value, int], bool] = {}
    for node in graph.nodes:
        if node.op_type != "aten.where.ScalarOther" or node.output.dtype not in _LOWEST:
            continue
        condition, other = node.tensor("condition"), _number(graph, node.args["other"])
        if other is None or other > _LOWEST[node.output.dtype] or not node.output.rank:
            continue
        key = (condition, node.output.shape[-1])
        if key not in found:
            found[key] = _visible(graph, *key) is not None
        if found[key]:
            node.args["other"] = -inf


@dataclass(frozen=True)
class _Bound:
    """key <= positions + offset, or with ``negated`` key > positions + offset."""

    positions: Value
    offset: int
    negated: bool


@dataclass(frozen=True)
class _Visible:
    """A mask by position: the query sees the last ``window`` keys (0: all) up to its position."""

    positions: Value
    window: int


def use_positions(graph: IRGraph) -> None:
    """Give attention the positions that its mask is computed from, where it is; see the module's
    text.
    """
    found: dict[tuple[Value, int], _Visible | None] = {}
    for index, node in enumerate(graph.nodes):
        name = {ATTENTION: "attn_mask", EAGER_ATTENTION: "mask"}.get(node.op_type)
        mask = node.args.get(name) if name is not None else None
        if not isinstance(mask, Value) or name is None or node.args.get("is_causal", False):
            continue
        keys = node.tensor("value").shape[-2]
        key = (mask, keys)
        if key not in found:
            found[key] = _visible(graph, mask, keys)
        visible = found[key]
        replaced = None if visible is None else _with_positions(node, name, visible)
        if replaced is not None:
            graph.nodes[index] = replaced


def _with_positions(node: Node, mask: str, visible: _Visible) -> Node | None:
    """The node with positions instead of its mask; None where its kernel could not take them."""
    added = {"positions": visible.positions, "window": visible.window}
    if node.op_type == EAGER_ATTENTION:
        op_type, args = EAGER_ATTENTION, {**node.args, mask: None, **added}
    elif node.args["dropout_p"] == 0:
        op_type = POSITION_ATTENTION
        kept = ("query", "key", "value", "scale", "enable_gqa")
        args = {**{name: node.args[name] for name in kept}, **added}
    else:
        return None
    outputs = node.outputs[:1]
    replaced = Node(node.name, op_type, args, outputs, node.source, node.origins)
    record = find_op(op_type)
    if len(node.outputs) != 1 or record is None or record.reason(replaced) is not None:
        return None
    replaced.output.producer = replaced
    return replaced


def _visible(graph: IRGraph, mask: Value, keys: int) -> _Visible | None:
    condition: Value | None = mask
    while condition is not None and condition.dtype in _LOWEST:
        condition = _hidden_where_false(graph, condition)
    if condition is None or condition.dtype != "bool":
        return None
    bounds = _bounds(graph, condition, keys)
    if bounds is None:
        return None
    upper = [b for b in bounds if not b.negated]
    lower = [b for b in bounds if b.negated]
    first = bounds[0].positions
    if len(upper) != 1 or len(lower) > 1 or upper[0].offset != 0:
        return None
    if not all(same_value(first, b.positions) for b in bounds):
        return None
    window = -lower[0].offset if lower else 0
    if lower and window <= 0:
        return None
    return _Visible(first, window)


def _number(graph: IRGraph, argument: object) -> float | None:
    """A number, or the one that a constant is full of."""
    if isinstance(argument, Value) and argument.kind == "constant":
        array = graph.constants[str(argument.key)]
        flat = array.reshape(-1)[:1]
        same = array.size > 0 and bool(np.all(array == flat[0]))
        return float(flat[0]) if same else None
    if isinstance(argument, (int, float)) and not isinstance(argument, bool):
        return float(argument)
    return None


def _hidden_where_false(graph: IRGraph, mask: Value) -> Value | None:
    """For an additive mask that is 0 where a condition holds, and hides elsewhere: the
    condition.
    """
    node = mask.producer
    if node is None:
        return None
    if node.op_type in _CAST or node.op_type in _EXPAND:
        return node.tensor("self")
    if node.op_type in _WHERE:
        kept, shown, hidden = node.tensor("condition"), node.args["self"], node.args["other"]
    elif node.op_type in _FILL:
        negation = node.tensor("mask").producer
        if negation is None or negation.op_type not in _NOT:
            return None
        kept, shown, hidden = negation.tensor("self"), node.args["self"], node.args["value"]
    else:
        return None
    number = _number(graph, hidden)
    hides = number is not None and number <= _LOWEST[mask.dtype]
    # The condition shows every dimension of the mask, constants none.
    return kept if hides and _number(graph, shown) == 0 and kept.shape == mask.shape else None


def _bounds(graph: IRGraph, condition: Value, keys: int) -> list[_Bound] | None:
    """The comparisons that all must hold for a key to be seen; None where it is something else."""
    node = condition.producer
    if node is None:
        return None
    if node.op_type in _EXPAND:
        return _bounds(graph, node.tensor("self"), keys)
    if node.op_type in _AND:
        parts = [node.args["self"], node.args["other"]]
        found: list[_Bound] = []
        for part in parts:
            bounds = _bounds(graph, part, keys) if isinstance(part, Value) else None
            if bounds is None:
                return None
            found += bounds
        return found
    bound = _comparison(graph, node, keys)
    return None if bound is None else [bound]


def _comparison(graph: IRGraph, node: Node, keys: int) -> _Bound | None:
    name, _, overload = node.op_type.removeprefix("aten.").partition(".")
    if name not in _COMPARE or overload != "Tensor":
        return None
    left, right = node.args["self"], node.args["other"]
    if not (isinstance(left, Value) and isinstance(right, Value)):
        return None
    if _counts_keys(graph, right, keys):
        left, right, name = right, left, _SWAPPED[name]
    elif not _counts_keys(graph, left, keys):
        return None
    positions, offset = _shifted(right)
    if positions.dtype not in INDEX_DTYPES or positions.shape[-1:] != (1,):
        return None
    negated, more = _COMPARE[name]
    return _Bound(positions, offset + more, negated)


def _counts_keys(graph: IRGraph, value: Value, keys: int) -> bool:
    """Whether the value is 0, 1, ... keys - 1 along its last dimension."""
    if value.shape[-1:] != (keys,) or value.numel != keys or keys < 2:
        return False
    found = value
    while found.producer is not None:
        if found.producer.op_type not in _SAME_ORDER or found.dtype not in INDEX_DTYPES:
            return False
        found = next(found.producer.inputs())
    if found.kind != "constant" or found.dtype not in INDEX_DTYPES:
        return False
    return bool(np.array_equal(graph.constants[str(found.key)].reshape(-1), np.arange(keys)))


def _shifted(value: Value) -> tuple[Value, int]:
    """The value without additions of whole numbers, and what they add."""
    offset = 0
    while (node := value.producer) is not None:
        base = node.args.get("self")
        if not isinstance(base, Value) or base.shape != value.shape:
            break
        if node.op_type in _CAST and base.dtype == "int32" and value.dtype == "int64":
            value = base
            continue
        sign = {"aten.add": 1, "aten.sub": -1}.get(node.op_type.rpartition(".")[0])
        other = node.args.get("other")
        if sign is None or not isinstance(other, int) or node.args.get("alpha", 1) != 1:
            break
        value, offset = base, offset + sign * other
    return value, offset
