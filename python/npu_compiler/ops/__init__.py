"""Op records: one per ATen overload, in files by family. ``is_op_supported`` and every pass ask
this registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from npu_compiler.ops.record import OpRecord

_RECORDS: dict[str, OpRecord] = {}


def _records() -> dict[str, OpRecord]:
    """Every record; each module of this package with ``RECORDS`` contributes its own."""
    if not _RECORDS:
        for info in iter_modules(__path__):
            for record in getattr(import_module(f"{__name__}.{info.name}"), "RECORDS", ()):
                if record.op_type in _RECORDS:
                    raise ValueError(f"two records for {record.op_type}")
                _RECORDS[record.op_type] = record
    return _RECORDS


def functional_name(op_type: str) -> str | None:
    """The functional overload of an in-place one (``aten.add_.Tensor`` -> ``aten.add.Tensor``), or
    None.
    """
    parts = op_type.split(".")
    if len(parts) == 3 and parts[1].endswith("_") and not parts[1].endswith("__"):
        return f"{parts[0]}.{parts[1][:-1]}.{parts[2]}"
    return None


def find_op(op_type: str) -> OpRecord | None:
    """The record of an overload (of its functional form, for an in-place one), or None."""
    record = _records().get(op_type)
    if record is None and (functional := functional_name(op_type)) is not None:
        record = _records().get(functional)
        # In-place view operators change what their operand is, not what it holds.
        return record if record is not None and record.view is None else None
    return record


def get_supported_ops() -> frozenset[str]:
    """The ATen overloads that the NPU has."""
    return frozenset(name for name in _records() if name.startswith("aten."))


def is_op_supported(op_type: str, attrs: Mapping[str, Any] | None = None) -> bool:
    """Whether the NPU has ``op_type`` and, given attributes, whether it can run with them."""
    return op_support_reason(op_type, attrs) is None


def op_support_reason(op_type: str, attrs: Mapping[str, Any] | None = None) -> str | None:
    """Why ``is_op_supported`` says no; None where it says yes."""
    if op_type == "<built-in function getitem>":
        return None
    record = find_op(op_type)
    if record is None:
        return f"the NPU has no operator {op_type}"
    return None if attrs is None else record.attrs_reason(attrs)
