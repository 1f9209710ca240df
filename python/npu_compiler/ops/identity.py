"""Operators that return their input unchanged at inference, and the casts and copies that look like
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from npu_compiler.graph import Node
from npu_compiler.ops.arguments import require, same_shape
from npu_compiler.ops.record import ALL, OpRecord

if TYPE_CHECKING:
    from npu_compiler.elementwise import Builder, Register


def _always(node: Node) -> bool:
    return True


def _same_dtype(node: Node) -> bool:
    return node.tensor("self").dtype == node.output.dtype


def _check_dropout(args: Mapping[str, Any]) -> str | None:
    require(
        not args["train"] or args["p"] == 0,
        "dropout in training mode is random; call model.eval() before extracting the IR",
    )
    return None


def _check_same(node: Node) -> str | None:
    x = next(node.inputs())
    same_shape(node, x.shape)
    require(
        x.dtype == node.output.dtype or "dtype" in node.args or "other" in node.args,
        f"the result must be {x.dtype}, the IR declares {node.output.dtype}",
    )
    return None


def _check_cast(node: Node) -> str | None:
    x = node.tensor("self")
    same_shape(node, x.shape)
    dtype = node.args.get("dtype")
    stated = dtype.removeprefix("torch.") if isinstance(dtype, str) else node.output.dtype
    require(
        stated == node.output.dtype,
        f"the result must be {stated}, the IR declares {node.output.dtype}",
    )
    return None


def _cast(b: Builder, args: Mapping[str, Any]) -> Register:
    """The result's dtype is the output's, whatever the formula returns: see build_program."""
    register: Register = args["self"]
    return register


def _identity(op_type: str, signature: str) -> OpRecord:
    return OpRecord(op_type, signature, emit=_cast, check=_check_same, dtypes=ALL, identity=_always)


def _conversion(op_type: str, signature: str) -> OpRecord:
    return OpRecord(
        op_type,
        signature,
        emit=_cast,
        check=_check_cast,
        dtypes=ALL,
        identity=_same_dtype,
    )


def _dropout(op_type: str, emit: Callable[..., Any] = lambda b, args: args["input"]) -> OpRecord:
    return OpRecord(
        op_type,
        "input:T, p, train",
        emit=emit,
        check_attrs=_check_dropout,
        check=_check_same,
        identity=_always,
    )


_REST = "dtype=None, layout=None, device=None, pin_memory=None, non_blocking=False"
RECORDS = (
    _identity("aten.alias.default", "self:T"),
    _identity("aten.positive.default", "self:T"),
    _identity("aten.detach.default", "self:T"),
    _identity("aten.detach_.default", "self:T"),
    _identity("aten.lift_fresh_copy.default", "self:T"),
    _identity("aten.clone.default", "self:T, memory_format=None"),
    _identity("aten.contiguous.default", "self:T, memory_format=None"),
    _dropout("aten.dropout.default"),
    _dropout("aten.feature_dropout.default"),
    _dropout("aten.alpha_dropout.default"),
    _conversion(
        "aten.to.dtype", "self:T, dtype, non_blocking=False, copy=False, memory_format=None"
    ),
    _conversion(
        "aten.to.device",
        "self:T, device, dtype, non_blocking=False, copy=False, memory_format=None",
    ),
    _conversion(
        "aten.to.dtype_layout",
        "self:T, dtype=None, layout=None, device=None, pin_memory=None, non_blocking=False, "
        "copy=False, memory_format=None",
    ),
    _conversion("aten._to_copy.default", f"self:T, {_REST}, memory_format=None"),
    _conversion("prims.convert_element_type.default", "self:T, dtype"),
    _conversion("aten.type_as.default", "self:T, other:T"),
)
