"""Reductions over any dimensions: sums, extremes, truth, norms, variances, places of extremes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from npu_compiler.graph import Node, Value
from npu_compiler.kernels.reduce import ARG_OPS, REDUCE_OPS
from npu_compiler.ops.arguments import Refusal, axis, integers, number, require, same_shape
from npu_compiler.ops.record import ALL, FLOATS, INTEGERS_AND_BOOL, OpRecord
from npu_compiler.ops.rows import emit_rows, narrowed, with_axis, zero_paddings
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

# Reductions that have no value for no elements.
_NEEDS_ELEMENTS = frozenset({"max", "min", "norm_inf", "norm_neg_inf"})
# Those that give 0 for zeros, so that padding may be reduced along with the rest.
_KEEPS_ZERO = frozenset(REDUCE_OPS) - {"logsumexp", "all"}
# Those that also take integers and bools.
_EXACT = frozenset({"sum", "prod", "max", "min", "any", "all", "count_nonzero", "mean"})
_NORMS = {0.0: "norm_0", 1.0: "norm_1", 2.0: "norm_2", inf: "norm_inf", -inf: "norm_neg_inf"}


def reduced_dims(node: Node) -> list[int]:
    """The reduced dimensions, ascending; none given means all."""
    rank = node.tensor("self").rank
    given = node.args.get("dim")
    if given is None or given == []:
        return list(range(rank))
    dims = [axis(d, rank) for d in integers(given, "dim")]
    require(len(set(dims)) == len(dims), f"dim {given} names a dimension twice")
    return sorted(dims) if rank else []


def reduced_shape(node: Node) -> tuple[int, ...]:
    """The shape of the node's results."""
    x, dims = node.tensor("self"), reduced_dims(node)
    if node.args.get("keepdim"):
        return tuple(1 if d in dims else n for d, n in enumerate(x.shape))
    return tuple(n for d, n in enumerate(x.shape) if d not in dims)


def _check_dtype(op: str, x: Value, out: Value) -> None:
    """What the reduce kernel computes is what PyTorch declares."""
    if op in ("any", "all"):
        require(out.dtype in ("bool", "uint8"), f"{op} gives bool, the IR declares {out.dtype}")
    elif op == "count_nonzero":
        require(out.dtype == "int64", f"a count is int64, the IR declares {out.dtype}")
    elif x.dtype in INTEGERS_AND_BOOL:
        require(op in _EXACT, f"it can reduce {', '.join(sorted(FLOATS))}, {x.name!r} is {x.dtype}")
        require(
            op != "mean" or out.dtype in FLOATS,
            f"a mean is floating, the IR declares {out.dtype}",
        )
    else:
        require(
            out.dtype in FLOATS, f"it cannot reduce {x.dtype} {x.name!r} as {out.dtype}; cast first"
        )
    if op in ("max", "min"):
        require(x.dtype == out.dtype, f"the result must be {x.dtype}, the IR declares {out.dtype}")


def _check_elements(op: str, x: Value, dims: Sequence[int]) -> None:
    empty = any(x.shape[d] == 0 for d in dims)
    require(
        not (empty and op in _NEEDS_ELEMENTS), f"{op} over an empty dimension of {list(x.shape)}"
    )


def reduce_op(node: Node) -> str:
    """The kernel's name for what a record's node asks for."""
    op = REDUCE_OP_OF[node.op_type]
    if op != "norm":
        return op
    name = "p" if "p" in node.args else "ord"
    order = node.args.get(name)
    if order is None:
        order = 2
    found = _NORMS.get(float(number(order, name)))
    if found is None:
        raise Refusal(f"a norm of order {order} is not supported, only 0, 1, 2, inf and -inf")
    return found


def _check(node: Node) -> str | None:
    x, op = node.tensor("self"), reduce_op(node)
    if ".linalg_norm." in node.op_type and node.args["ord"] is not None:
        # Of a matrix, an order means another norm than that of its elements.
        order = node.args["ord"]
        require(len(reduced_dims(node)) == 1, f"a matrix norm of order {order} is not supported")
    same_shape(node, reduced_shape(node))
    _check_dtype(op, x, node.output)
    _check_elements(op, x, reduced_dims(node))
    return None


def _lower(lowering: Lowering, node: Node) -> None:
    _emit(lowering, node, reduce_op(node), node.output)


def _result(lowering: Lowering, node: Node, value: Value, dims: Sequence[int]) -> View:
    spatial = lowering.is_image(node.tensor("self")) and 1 not in dims
    return lowering.define(value, image=spatial)


def _without(view: View, node: Node, dims: Sequence[int]) -> View:
    """A result without the dimensions that ``keepdim`` leaves."""
    if node.args.get("keepdim"):
        for d in reversed(dims):
            view = view.drop(d)
    return view


def _emit(lowering: Lowering, node: Node, op: str, value: Value) -> None:
    x = narrowed(lowering, node, lowering.read(node.tensor("self")), value)
    dims = reduced_dims(node)
    out = _result(lowering, node, value, dims)
    y = _without(out, node, dims)
    kept = [d for d in range(len(x.shape)) if d not in dims]
    padded = False
    if op in _KEEPS_ZERO and x.pad is not None and x.pad[0] in kept and x.numel:
        source, target = x.padded(), y.padded()
        if y.pad is not None and tuple(source.shape[d] for d in kept) == target.shape:
            x, y, padded = source, target, True
    if not x.shape:
        x, dims = with_axis(x), [0]
    emit_rows(lowering, node, "reduce", {"op": REDUCE_OPS[op]}, dims, {"x": x}, {"y": y})
    if not padded:
        zero_paddings(lowering, node, out)


# Variance and standard deviation.


def _correction(args: Mapping[str, Any]) -> float:
    if "unbiased" in args:
        return 1.0 if args["unbiased"] in (None, True) else 0.0
    given = args.get("correction")
    return 1.0 if given is None else float(number(given, "correction"))


def _check_variance(node: Node) -> str | None:
    x = node.tensor("self")
    _correction(node.args)
    for index, value in enumerate(node.outputs):
        same_shape(node, reduced_shape(node), index)
        require(value.dtype == x.dtype, f"the result must be {x.dtype}, it is {value.dtype}")
    return None


def _lower_variance(lowering: Lowering, node: Node) -> None:
    x = lowering.read(node.tensor("self"))
    dims = reduced_dims(node)
    outs = [_result(lowering, node, value, dims) for value in node.outputs]
    results = [_without(out, node, dims) for out in outs]
    if not x.shape:
        x, dims = with_axis(x), [0]
    fields = {"correction": _correction(node.args), "root": int(".std" in node.op_type)}
    writes = {"y": results[0], "mean": results[1] if len(results) > 1 else None}
    emit_rows(lowering, node, "variance", fields, dims, {"x": x}, writes)
    zero_paddings(lowering, node, *outs)


# Extremes and their places.


def _arg_dims(node: Node) -> list[int] | None:
    """The one reduced dimension; None where all elements count as one row."""
    given = node.args.get("dim")
    rank = node.tensor("self").rank
    if given is None:
        return None
    return [axis(given, rank)] if rank else []


def _check_arg(node: Node) -> str | None:
    x, dims = node.tensor("self"), _arg_dims(node)
    places = list(range(x.rank)) if dims is None else dims
    _check_elements("max", x, places)
    require(x.rank < 1 or x.numel > 0 or bool(dims), f"{list(x.shape)} has no elements")
    for index, value in enumerate(node.outputs):
        same_shape(node, reduced_shape(node), index)
        last = index == len(node.outputs) - 1
        wanted = "int64" if last else x.dtype
        require(value.dtype == wanted, f"the result must be {wanted}, it is {value.dtype}")
    return None


def _lower_arg(lowering: Lowering, node: Node) -> None:
    source = node.tensor("self")
    x, dims = lowering.read(source), _arg_dims(node)
    outs = [_result(lowering, node, value, reduced_dims(node)) for value in node.outputs]
    results = [_without(out, node, reduced_dims(node)) for out in outs]
    if dims is None or not x.shape:
        flat = x.reshape((source.numel,))
        if flat is None:
            flat = lowering.contiguous(x, node).reshape((source.numel,))
        x, dims = flat or x, [0]
    fields = {"op": ARG_OPS["min" if "min" in node.op_type else "max"]}
    writes = {"y": results[0] if len(results) > 1 else None, "index": results[-1]}
    emit_rows(lowering, node, "arg_reduce", fields, dims, {"x": x}, writes)
    zero_paddings(lowering, node, *outs)


def _check_aminmax(node: Node) -> str | None:
    x = node.tensor("self")
    for index, value in enumerate(node.outputs):
        same_shape(node, reduced_shape(node), index)
        _check_dtype("max", x, value)
    _check_elements("max", x, reduced_dims(node))
    return None


def _lower_aminmax(lowering: Lowering, node: Node) -> None:
    for op, value in zip(("min", "max"), node.outputs, strict=True):
        _emit(lowering, node, op, value)


_DIMS = "self:T, dim=None, keepdim=False"
_TYPED = f"{_DIMS}, dtype=None"
# The kernel's reduction of each overload ("norm": by the order), its signature and dtypes.
_REDUCTIONS: tuple[tuple[str, str, str, frozenset[str]], ...] = (
    ("aten.sum.default", "sum", "self:T, dtype=None", ALL),
    ("aten.sum.dim_IntList", "sum", _TYPED, ALL),
    ("aten.mean.default", "mean", "self:T, dtype=None", ALL),
    ("aten.mean.dim", "mean", _TYPED, ALL),
    ("aten.prod.default", "prod", "self:T, dtype=None", ALL),
    ("aten.prod.dim_int", "prod", "self:T, dim, keepdim=False, dtype=None", ALL),
    ("aten.amax.default", "max", _DIMS, ALL),
    ("aten.amin.default", "min", _DIMS, ALL),
    ("aten.max.default", "max", "self:T", ALL),
    ("aten.min.default", "min", "self:T", ALL),
    ("aten.any.default", "any", "self:T", ALL),
    ("aten.any.dim", "any", "self:T, dim, keepdim=False", ALL),
    ("aten.any.dims", "any", _DIMS, ALL),
    ("aten.all.default", "all", "self:T", ALL),
    ("aten.all.dim", "all", "self:T, dim, keepdim=False", ALL),
    ("aten.all.dims", "all", _DIMS, ALL),
    ("aten.count_nonzero.default", "count_nonzero", "self:T, dim=None", ALL),
    ("aten.count_nonzero.dim_IntList", "count_nonzero", "self:T, dim", ALL),
    ("aten.logsumexp.default", "logsumexp", "self:T, dim, keepdim=False", FLOATS),
    (
        "aten.linalg_vector_norm.default",
        "norm",
        "self:T, ord=2, dim=None, keepdim=False, dtype=None",
        FLOATS,
    ),
    (
        "aten.linalg_norm.default",
        "norm",
        "self:T, ord=None, dim=None, keepdim=False, dtype=None",
        FLOATS,
    ),
    ("aten.norm.Scalar", "norm", "self:T, p=2", FLOATS),
    ("aten.norm.ScalarOpt_dim", "norm", "self:T, p, dim, keepdim=False", FLOATS),
    ("aten.norm.ScalarOpt_dtype", "norm", "self:T, p, dtype", FLOATS),
    ("aten.norm.ScalarOpt_dim_dtype", "norm", "self:T, p, dim, keepdim, dtype", FLOATS),
    ("aten.frobenius_norm.dim", "norm_2", "self:T, dim, keepdim=False", FLOATS),
)
REDUCE_OP_OF = {op_type: op for op_type, op, _, _ in _REDUCTIONS}


def _records(
    overloads: Sequence[tuple[str, str]],
    lower: Callable[[Lowering, Node], None],
    check: Callable[[Node], str | None],
    dtypes: frozenset[str],
) -> tuple[OpRecord, ...]:
    return tuple(
        OpRecord(op_type, signature, lower=lower, check=check, dtypes=dtypes)
        for op_type, signature in overloads
    )


_VARIANCES = [
    (f"aten.{name}.{overload}", signature)
    for name in ("var", "std", "var_mean", "std_mean")
    for overload, signature in (
        ("default", "self:T, unbiased=True"),
        ("dim", "self:T, dim, unbiased=True, keepdim=False"),
        ("correction", "self:T, dim=None, correction=None, keepdim=False"),
    )
]
_ARGS = [
    ("aten.argmax.default", _DIMS),
    ("aten.argmin.default", _DIMS),
    ("aten.max.dim", "self:T, dim, keepdim=False"),
    ("aten.min.dim", "self:T, dim, keepdim=False"),
]
RECORDS = (
    *(
        OpRecord(op_type, signature, lower=_lower, check=_check, dtypes=dtypes)
        for op_type, _, signature, dtypes in _REDUCTIONS
    ),
    *_records(_VARIANCES, _lower_variance, _check_variance, FLOATS),
    *_records(_ARGS, _lower_arg, _check_arg, ALL),
    *_records([("aten.aminmax.default", _DIMS)], _lower_aminmax, _check_aminmax, ALL),
)
