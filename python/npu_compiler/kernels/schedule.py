"""Schedules: other ways to run a kernel on a GPU than its record's own launch.

A schedule is a launch (or several, one after the other, with scratch memory between them) that
computes the same as the kernel for some dispatches: large ones, aligned ones, those of few rows. A
program never names one. A GPU device takes the first schedule of the record whose condition holds
when it loads a program.

Conditions and sizes are shape expressions (expr.py) that may also read, for an operand ``x`` with
an axis ``m``: ``x.sm``, the axis's stride in elements; ``x.offset``, where the view begins in its
buffer, in bytes; ``x.item``, bytes of an element; ``x.dtype``, the dtype's id. Buffers themselves
begin at multiples of 8 bytes at least.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from npu_compiler.dtypes import BY_SHORT, DTYPES
from npu_compiler.kernels.expr import evaluate, names

# A schedule that wants more scratch memory than this is passed over.
MAX_SCRATCH_BYTES = 1 << 28
# Threadgroup arrays: (name, short dtype or the type variable T, number of elements).
SharedArray = tuple[str, str, int]


@dataclass(frozen=True)
class Launch:
    """How many threads (or threadgroups) a dispatch starts, as shape expressions in x, y, z."""

    size: tuple[str, str, str]
    threadgroup: tuple[int, int, int]
    unit: Literal["threads", "threadgroups"] = "threads"


@dataclass(frozen=True)
class Scratch:
    """Memory that the stages of a schedule share during a dispatch: their bodies get it behind the
    kernel's operands. ``elements`` is an expression.
    """

    name: str
    dtype: str
    elements: str

    @property
    def bytes(self) -> str:
        """Its size as an expression."""
        return f"({self.elements}) * {BY_SHORT[self.dtype].size}"


class OperandView(Protocol):
    """What conditions read of an operand: shape, strides in elements, dtype, offset in bytes."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def strides(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def offset(self) -> int: ...


def view_names(operand: str, axes: Sequence[str], view: OperandView) -> Iterator[tuple[str, int]]:
    """Names that expressions of schedules may read beside shapes, with their values."""
    for axis, stride in zip(axes, view.strides, strict=True):
        yield f"{operand}.s{axis}", stride
    yield f"{operand}.item", DTYPES[view.dtype].size
    yield f"{operand}.dtype", DTYPES[view.dtype].id
    yield f"{operand}.offset", view.offset


@dataclass(frozen=True)
class EntryPoint:
    """A launch that a shader file defines: function ``npu_<name>``, and a kernel ``<name>_<type>``
    per value of the type variable. ``schedule`` 0 is the kernel's own launch.
    """

    name: str
    shader: str
    launch: Launch
    shared: tuple[SharedArray, ...]
    scratch: tuple[Scratch, ...] = ()
    schedule: int = 0
    stage: int = 0

    @property
    def shared_bytes(self) -> int:
        """Threadgroup memory, at most."""
        return sum(n * (4 if t == "T" else BY_SHORT[t].size) for _, t, n in self.shared)

    def variants(self, types: Sequence[str]) -> tuple[str, ...]:
        """Names of the kernels, one per short dtype; just the name without any."""
        return tuple(f"{self.name}_{t}" for t in types) or (self.name,)


@dataclass(frozen=True)
class Stage:
    """One launch of a schedule; ``name`` tells it from its neighbours and is empty for the only
    one.
    """

    launch: Launch
    shared: tuple[SharedArray, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Schedule:
    """A way to run a kernel: stages in order, each of which sees all that the one before wrote.

    ``needs`` are expressions that must all hold for it to be right, ``when`` those that must hold
    on top for it to be chosen, since it pays; those that read an absent optional operand are passed
    over. The functions are ``npu_<kernel>_<schedule>[_<stage>]`` in file ``shader``.
    """

    name: str
    shader: str
    needs: tuple[str, ...]
    when: tuple[str, ...]
    stages: tuple[Stage, ...]
    scratch: tuple[Scratch, ...] = ()

    def rules(self, worth: bool = True) -> tuple[str, ...]:
        """All that must hold for it to be chosen, or, without ``worth``, to be right."""
        room = " + ".join(["0", *(f"({s.bytes})" for s in self.scratch)])
        limit = (f"{room} <= {MAX_SCRATCH_BYTES}",) if self.scratch else ()
        return (*self.needs, *(self.when if worth else ()), *limit)

    def entries(self, kernel: str, number: int) -> Iterator[EntryPoint]:
        """The entry points of its stages; it is schedule ``number`` of ``kernel``."""
        for k, stage in enumerate(self.stages):
            parts = (kernel, self.name, stage.name)
            name = "_".join(p for p in parts if p)
            yield EntryPoint(name, self.shader, stage.launch, stage.shared, self.scratch, number, k)

    def fits(
        self, env: Mapping[str, int], operands: Mapping[str, object | None], worth: bool = True
    ) -> bool:
        """Whether its rules hold; ``env`` has the names that expressions read, ``operands`` says
        which are present.
        """
        for rule in self.rules(worth):
            read = {n.partition(".")[0] for n in names(rule) if "." in n}
            if all(operands.get(o) is not None for o in read) and not evaluate(rule, env):
                return False
        return True

    def scratch_bytes(self, env: Mapping[str, int]) -> list[int]:
        """Bytes of each scratch array."""
        return [evaluate(s.bytes, env) for s in self.scratch]
