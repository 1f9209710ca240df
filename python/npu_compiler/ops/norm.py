"""Layer, RMS, group and instance norm: rows of one kernel, whatever their layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, prod
from typing import TYPE_CHECKING, Any

from npu_compiler.graph import Node, Value
from npu_compiler.ops.arguments import integer, integers, number, require, same_shape
from npu_compiler.ops.record import FLOATS, OpRecord
from npu_compiler.ops.rows import emit_rows, parameter_rows, zero_paddings
from npu_compiler.program.recipes import RecipeStep
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering

# RMS norm times (shift + weight), as Gemma's is; the sum is made when weights are loaded.
SHIFTED_RMS_NORM = "npu.shifted_rms_norm"
# The distance from 1 to the next number: PyTorch's eps where an RMS norm gives none.
_EPSILON = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def epsilon(node: Node) -> float:
    """What a norm adds to the variance (or mean square): its eps, or PyTorch's where it gives
    none.
    """
    eps = node.args.get("eps")
    return _EPSILON[node.tensor("input").dtype] if eps is None else float(eps)


def _check_eps(args: Mapping[str, Any]) -> str | None:
    if args.get("eps") is not None:
        eps = number(args["eps"], "eps")
        require(0 <= eps < inf, f"eps must be finite and not negative, got {eps}")
    return None


def _check_parameters(node: Node, shape: Sequence[int]) -> None:
    for name in ("weight", "bias"):
        value = node.args.get(name)
        require(
            value is None or (isinstance(value, Value) and value.shape == tuple(shape)),
            f"{name} must be {list(shape)}, got {value!r}",
        )


def _check_last(node: Node) -> str | None:
    """Norms over the last dimensions."""
    x = node.tensor("input")
    shape = integers(node.args["normalized_shape"], "normalized_shape")
    require(
        1 <= len(shape) <= x.rank and x.shape[x.rank - len(shape) :] == shape,
        f"normalized_shape {list(shape)} is not the end of {list(x.shape)}",
    )
    _check_parameters(node, shape)
    same_shape(node, x.shape)
    return None


def _emit(
    lowering: Lowering,
    node: Node,
    dims: Sequence[int],
    views: tuple[View, View],
    parameters: tuple[View | None, View | None],
    rms: bool = False,
) -> None:
    x, y = views
    fields = {"eps": epsilon(node), "rms": int(rms)}
    reads = {"x": x, "w": parameters[0], "bias": parameters[1]}
    emit_rows(lowering, node, "row_norm", fields, dims, reads, {"y": y})


def _lower_last(lowering: Lowering, node: Node, rms: bool = False) -> None:
    source = node.tensor("input")
    x = lowering.read(source)
    y = lowering.define(node.output, image=lowering.is_image(source))
    count = len(integers(node.args["normalized_shape"], "normalized_shape"))
    dims = list(range(source.rank - count, source.rank))
    weight = parameter_rows(lowering, node.args.get("weight"), dims, x.shape, scale_steps(node))
    bias = parameter_rows(lowering, node.args.get("bias"), dims, x.shape)
    _emit(lowering, node, dims, (x, y), (weight, bias), rms)
    zero_paddings(lowering, node, y)


def scale_steps(node: Node) -> tuple[RecipeStep, ...]:
    """The steps that make a norm's scale of its weight."""
    shift = node.args.get("shift", 0)
    return (RecipeStep("add", value=float(shift)),) if shift else ()


def _check_shifted(node: Node) -> str | None:
    weight = node.tensor("weight")
    require(weight.kind == "weight", f"weight must be a weight of the model, got {weight!r}")
    number(node.args["shift"], "shift")
    return _check_last(node)


def _lower_rms(lowering: Lowering, node: Node) -> None:
    _lower_last(lowering, node, rms=True)


def _groups(node: Node) -> int:
    name = "num_groups" if "num_groups" in node.args else "group"
    return integer(node.args[name], name) if name in node.args else node.tensor("input").shape[1]


def _check_groups(node: Node) -> str | None:
    """Group norm, and instance norm as one group for each channel."""
    x = node.tensor("input")
    require(x.rank >= 2, f"the input must have channels, got {list(x.shape)}")
    groups = _groups(node)
    require(
        groups >= 1 and x.shape[1] % groups == 0,
        f"{x.shape[1]} channels cannot be divided into {groups} groups",
    )
    if "HxW" in node.args:
        given = [integer(node.args[name], name) for name in ("N", "C", "HxW")]
        found = [x.shape[0], x.shape[1], prod(x.shape[2:])]
        require(given == found, f"N, C and HxW are {given}, the input has {found}")
    _check_parameters(node, (x.shape[1],))
    same_shape(node, x.shape)
    return None


def _check_instance(node: Node) -> str | None:
    require(
        bool(node.args["use_input_stats"]),
        "instance norm with running statistics is not supported; use the input's",
    )
    return _check_groups(node)


def _grouped(view: View, groups: int) -> View:
    """Channels as (group, channel in the group)."""
    size = view.shape[1] // groups
    return View(
        view.storage,
        (view.shape[0], groups, size, *view.shape[2:]),
        (view.strides[0], view.strides[1] * size, view.strides[1], *view.strides[2:]),
        view.offset,
    )


def _lower_groups(lowering: Lowering, node: Node) -> None:
    source = node.tensor("input")
    x = lowering.read(source)
    y = lowering.define(node.output, image=lowering.is_image(source))
    groups = _groups(node)
    weight, bias = (
        None if view is None else _grouped(view, groups)
        for view in (
            parameter_rows(lowering, node.args.get(name), [1], x.shape)
            for name in ("weight", "bias")
        )
    )
    dims = list(range(2, source.rank + 1))
    _emit(lowering, node, dims, (_grouped(x, groups), _grouped(y, groups)), (weight, bias))
    zero_paddings(lowering, node, y)


def _record(op_type: str, signature: str, lower: Any, check: Any) -> OpRecord:
    return OpRecord(
        op_type,
        signature,
        lower=lower,
        check=check,
        check_attrs=_check_eps,
        single_output=True,
        dtypes=FLOATS,
    )


_AFFINE = "weight:T?, bias:T?"
RECORDS = (
    _record(
        "aten.layer_norm.default",
        f"input:T, normalized_shape, {_AFFINE}, eps=1e-05, cudnn_enable=True",
        _lower_last,
        _check_last,
    ),
    _record(
        "aten.native_layer_norm.default",
        f"input:T, normalized_shape, {_AFFINE}, eps",
        _lower_last,
        _check_last,
    ),
    _record(
        "aten.rms_norm.default",
        "input:T, normalized_shape, weight:T?, eps=None",
        _lower_rms,
        _check_last,
    ),
    _record(
        SHIFTED_RMS_NORM,
        "input:T, normalized_shape, weight:T, shift, eps",
        _lower_rms,
        _check_shifted,
    ),
    _record(
        "aten._fused_rms_norm.default",
        "input:T, normalized_shape, weight:T?, eps",
        _lower_rms,
        _check_last,
    ),
    _record(
        "aten.group_norm.default",
        f"input:T, num_groups, {_AFFINE}, eps=1e-05, cudnn_enabled=True",
        _lower_groups,
        _check_groups,
    ),
    _record(
        "aten.native_group_norm.default",
        f"input:T, {_AFFINE}, N, C, HxW, group, eps",
        _lower_groups,
        _check_groups,
    ),
    _record(
        "aten.instance_norm.default",
        f"input:T, {_AFFINE}, running_mean:T?, running_var:T?, use_input_stats, momentum, eps, "
        "cudnn_enabled",
        _lower_groups,
        _check_instance,
    ),
)
