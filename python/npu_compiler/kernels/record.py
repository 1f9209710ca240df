"""The kernel record: everything that is known of one NPU instruction, declared once.

From a record come the parameter struct (C++ and Metal), the entry points of the three compilers,
the program verifier's checks, the launch grid, and the flop count. A record may add schedules
(schedule.py): other ways to run the instruction, chosen by a GPU device when a program is loaded.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from npu_compiler.dtypes import BY_SHORT
from npu_compiler.kernels.expr import evaluate, names
from npu_compiler.kernels.schedule import (
    EntryPoint,
    OperandView,
    Schedule,
    SharedArray,
    view_names,
)
from npu_compiler.kernels.schedule import (
    Launch as Launch,
)

Access = Literal["read", "write"]
FieldType = Literal["u32", "i32", "f32"]
_PACK = {"u32": "I", "i32": "i", "f32": "f"}
MAX_OPERANDS = 16
MAX_SCRATCH = 4
MAX_SHARED = 4
# Threadgroup memory of every Apple GPU.
MAX_SHARED_BYTES = 32 * 1024
# Metal's setBytes limit: parameters of one dispatch must fit.
MAX_PARAM_BYTES = 4096


class KernelRuleError(ValueError):
    """A dispatch breaks a rule of its kernel record: a compiler bug or a damaged program."""


@dataclass(frozen=True)
class Operand:
    """One buffer operand, in binding order.

    ``axes`` names its dimensions in logical order; the view's strides say where they lie in memory.
    ``dtype`` is a short dtype name, a type variable of the kernel (``T``), or ``any`` (the
    parameter struct then carries its id).
    """

    name: str
    axes: tuple[str, ...]
    dtype: str = "T"
    access: Access = "read"
    optional: bool = False


@dataclass(frozen=True)
class Field:
    """A scalar (or ``count``-element array) parameter that is not an operand's shape or stride."""

    name: str
    type: FieldType
    doc: str
    count: int = 1

    @property
    def format(self) -> str:
        """The ``struct`` format, derived from type and count."""
        return f"{self.count if self.count > 1 else ''}{_PACK[self.type]}"


@dataclass(frozen=True)
class Kernel:
    """One NPU instruction. ``id`` is part of the .npubin format: never reuse or renumber.

    ``requires`` are shape expressions that must hold (those that read an absent optional operand
    are passed over). ``inplace`` lists (input, output) pairs that may be the very same view; every
    other overlap is an error. ``shared`` are threadgroup arrays: (name, short dtype, number of
    elements).
    """

    id: int
    name: str
    shader: str
    doc: str
    operands: tuple[Operand, ...]
    fields: tuple[Field, ...]
    launch: Launch
    types: Mapping[str, tuple[str, ...]]
    requires: tuple[str, ...] = ()
    inplace: tuple[tuple[str, str], ...] = ()
    shared: tuple[SharedArray, ...] = ()
    flops: str = "0"
    # Values of fields that native code refers to by name: ``REDUCE_SUM`` becomes NPU_REDUCE_SUM.
    constants: Mapping[str, int] = field(default_factory=dict)
    # For operands of which a dispatch touches only a part (a table of which rows are picked): how
    # many elements, as a shape expression. What is touched several times may count each time.
    touches: Mapping[str, str] = field(default_factory=dict)
    # Other ways to run it on a GPU, the best first: the first whose condition holds is taken.
    schedules: tuple[Schedule, ...] = ()

    @property
    def struct_name(self) -> str:
        """C++/Metal name of the parameter struct, e.g. ``Conv2dParams``."""
        return "".join(p.capitalize() for p in self.name.split("_")) + "Params"

    @cached_property
    def variants(self) -> tuple[str, ...]:
        """Entry point names, one per value of the type variable: ``conv2d_f16``; just the name
        without one.
        """
        return self.entry_points[0].variants(self.type_values)

    @property
    def type_values(self) -> tuple[str, ...]:
        """Short dtypes that the type variable may stand for; empty without one."""
        return next(iter(self.types.values()), ())

    @cached_property
    def entry_points(self) -> tuple[EntryPoint, ...]:
        """The kernel's own launch, then each stage of its schedules."""
        own = EntryPoint(self.name, self.shader, self.launch, self.shared)
        return (own, *(e for k, s in enumerate(self.schedules, 1) for e in s.entries(self.name, k)))

    def operand(self, name: str) -> Operand:
        """The operand called ``name``; KeyError if there is none."""
        return next(o for o in self.operands if o.name == name)

    @cached_property
    def field_format(self) -> str:
        """``struct`` format of the field block that a program stores for a dispatch."""
        return "<" + "".join(f.format for f in self.fields)

    @property
    def field_bytes(self) -> int:
        """Bytes of the field block."""
        return struct.calcsize(self.field_format)

    def pack_fields(self, values: Mapping[str, int | float | Sequence[int | float]]) -> bytes:
        """The field block; every field must be given. Raises KernelRuleError naming what is missing
        or unknown.
        """
        known = {f.name for f in self.fields}
        if set(values) != known:
            raise KernelRuleError(
                f"{self.name}: fields missing {sorted(known - set(values))}, "
                f"unknown {sorted(set(values) - known)}"
            )
        flat: list[int | float] = []
        for f in self.fields:
            value = values[f.name]
            parts = list(value) if isinstance(value, Sequence) else [value]
            if len(parts) != f.count:
                raise KernelRuleError(
                    f"{self.name}.{f.name}: {f.count} values expected, got {len(parts)}"
                )
            flat += parts
        try:
            return struct.pack(self.field_format, *flat)
        except struct.error as error:
            raise KernelRuleError(f"{self.name}: {error} in {dict(values)}") from None

    def unpack_fields(self, data: bytes) -> dict[str, int | float | tuple[int | float, ...]]:
        """The inverse of pack_fields."""
        flat = struct.unpack(self.field_format, data)
        out: dict[str, int | float | tuple[int | float, ...]] = {}
        at = 0
        for f in self.fields:
            out[f.name] = flat[at] if f.count == 1 else tuple(flat[at : at + f.count])
            at += f.count
        return out

    def environment(
        self,
        shapes: Mapping[str, Sequence[int] | None],
        fields: Mapping[str, int | float | Sequence[int | float]],
    ) -> dict[str, int]:
        """Names that expressions may read: ``x.n`` of each operand and the integer fields."""
        env: dict[str, int] = {}
        for o in self.operands:
            shape = shapes.get(o.name)
            if shape is None:
                if not o.optional:
                    raise KernelRuleError(f"{self.name}: operand {o.name} is missing")
                continue
            if len(shape) != len(o.axes):
                raise KernelRuleError(
                    f"{self.name}.{o.name}: rank {len(o.axes)} ({', '.join(o.axes)}) expected, "
                    f"got {list(shape)}"
                )
            env.update({f"{o.name}.{a}": int(s) for a, s in zip(o.axes, shape, strict=True)})
        for f in self.fields:
            value = fields.get(f.name)
            if f.type != "f32" and f.count == 1 and isinstance(value, int):
                env[f.name] = value
        return env

    def check(
        self,
        shapes: Mapping[str, Sequence[int] | None],
        fields: Mapping[str, int | float | Sequence[int | float]],
    ) -> dict[str, int]:
        """Raise KernelRuleError for the first rule that does not hold; returns the environment."""
        env = self.environment(shapes, fields)
        absent = {o.name for o in self.operands if shapes.get(o.name) is None}
        for rule in self.requires:
            used = names(rule)
            if any(n.partition(".")[0] in absent for n in used if "." in n):
                continue
            if not evaluate(rule, env):
                values = ", ".join(f"{n}={env[n]}" for n in sorted(used))
                raise KernelRuleError(f"{self.name}: rule {rule!r} does not hold ({values})")
        return env

    def grid(self, env: Mapping[str, int]) -> tuple[int, int, int]:
        """Threads (or threadgroups, see ``launch.unit``) in x, y, z."""
        x, y, z = (evaluate(e, env) for e in self.launch.size)
        return x, y, z

    def choose(
        self,
        operands: Mapping[str, OperandView | None],
        fields: Mapping[str, int | float | Sequence[int | float]],
    ) -> Schedule | None:
        """The schedule that GPU devices take for a dispatch; None: the kernel's own launch."""
        env = self.view_environment(operands, fields)
        return next((s for s in self.schedules if s.fits(env, operands)), None)

    def view_environment(
        self,
        operands: Mapping[str, OperandView | None],
        fields: Mapping[str, int | float | Sequence[int | float]],
    ) -> dict[str, int]:
        """Names that expressions of schedules may read."""
        shapes = {n: None if v is None else v.shape for n, v in operands.items()}
        env = self.environment(shapes, fields)
        for o in self.operands:
            view = operands.get(o.name)
            if view is not None:
                env.update(view_names(o.name, o.axes, view))
        return env

    def flop_count(self, env: Mapping[str, int]) -> int:
        """Floating-point operations of a dispatch (a multiply-add counts two)."""
        return evaluate(self.flops, env)

    def __post_init__(self) -> None:
        if len(self.operands) > MAX_OPERANDS:
            raise KernelRuleError(f"{self.name}: more than {MAX_OPERANDS} operands")
        for values in self.types.values():
            for v in values:
                if v not in BY_SHORT:
                    raise KernelRuleError(f"{self.name}: unknown dtype {v}")
        if len(self.types) > 1:
            raise KernelRuleError(f"{self.name}: more than one type variable")
        for e in self.entry_points:
            if len(self.operands) + len(e.scratch) > MAX_OPERANDS or len(e.scratch) > MAX_SCRATCH:
                raise KernelRuleError(f"{e.name}: too many operands and scratch arrays")
            if len(e.shared) > MAX_SHARED or e.shared_bytes > MAX_SHARED_BYTES:
                raise KernelRuleError(f"{e.name}: too many threadgroup arrays, or too large ones")
