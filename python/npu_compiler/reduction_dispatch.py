"""From a reduction with elementwise programs around it to one map_reduce dispatch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from npu_compiler.dtypes import DTYPES
from npu_compiler.elementwise import (
    Accumulator,
    Builder,
    Handle,
    ProgramTooLargeError,
    Register,
    words_of,
)
from npu_compiler.elementwise_dispatch import Padding, emit_program, operand_view
from npu_compiler.elementwise_program import build_program
from npu_compiler.graph import Node, Value
from npu_compiler.kernels.map_reduce import (
    ACCUMULATOR_DTYPES,
    ACCUMULATOR_INPUT,
    ACCUMULATOR_OUTPUT,
    COMBINE_OPS,
    KEPT_AXES,
    REDUCED_AXES,
)
from npu_compiler.kernels.reduce import REDUCE_OPS
from npu_compiler.kernels.scalar_ops import MAX_INSTRUCTIONS
from npu_compiler.ops.map_reduction import MapReduction
from npu_compiler.ops.rows import emit_rows, merged_axes, zero_paddings
from npu_compiler.view import View

if TYPE_CHECKING:
    from npu_compiler.lowering import Lowering


@dataclass(slots=True)
class _Programs:
    """What is computed of every element, and of every result: ``stored`` are the registers of what
    the dispatch stores.
    """

    map: Builder
    mapped: Register
    finish: Builder
    accumulator: Accumulator
    stored: list[Register]

    @property
    def map_inputs(self) -> list[Handle]:
        return self.map.used_inputs(self.mapped)

    @property
    def finish_inputs(self) -> list[Handle]:
        used = self.finish.used_inputs(*self.stored)
        return [handle for handle in used if handle is not self.accumulator]

    def encode(self) -> tuple[list[int], int, int]:
        """The code words, and how many instructions the first program and both have. Raises
        ProgramTooLargeError beyond the kernel's limits.
        """
        first, second = self.map_inputs, self.finish_inputs
        if len(first) + len(second) > ACCUMULATOR_INPUT or len(self.stored) > ACCUMULATOR_OUTPUT:
            raise ProgramTooLargeError
        slots: dict[Handle, int] = {handle: slot for slot, handle in enumerate(first)}
        code = self.map.instructions([self.mapped], slots, [ACCUMULATOR_OUTPUT])
        later: dict[Handle, int] = {h: len(first) + slot for slot, h in enumerate(second)}
        later[self.accumulator] = ACCUMULATOR_INPUT
        ending = self.finish.instructions(self.stored, later, range(len(self.stored)))
        if len(code) + len(ending) > MAX_INSTRUCTIONS:
            raise ProgramTooLargeError
        return words_of([*code, *ending]), len(code), len(code) + len(ending)

    def keeps_zero(self, zeros: dict[Handle, float | None]) -> bool:
        """Whether the results are zero where inputs are as ``zeros`` says."""
        if self.map.evaluate(self.mapped, zeros) != 0:
            return False
        known = {**zeros, self.accumulator: 0.0}
        return all(self.finish.evaluate(register, known) == 0 for register in self.stored)


def _programs(
    mapped: MapReduction,
    node: Node,
    before: Sequence[Node],
    after: Sequence[Node],
    outputs: Sequence[Value],
) -> _Programs:
    first = build_program(before)

    def load(value: Value) -> Register:
        return first.seen[value] if value in first.seen else first.builder.load(value)

    value = mapped.map(first.builder, load)
    finish = Builder()
    accumulator = Accumulator(ACCUMULATOR_DTYPES[value.type])
    result = mapped.finish(finish, finish.load(accumulator))
    known = {node.output: finish.result_for(result, node.output.dtype)}
    second = build_program(after, finish, known)
    results = {**known, **second.results}
    return _Programs(first.builder, value, finish, accumulator, [results[v] for v in outputs])


def emit_map_reduction(
    lowering: Lowering,
    node: Node,
    mapped: MapReduction,
    before: Sequence[Node],
    after: Sequence[Node],
    outputs: Sequence[Value],
    *,
    name: str,
) -> bool:
    """Emit ``node`` with elementwise nodes before and after it as one dispatch that stores
    ``outputs``. False, with nothing emitted, where the kernel's limits or strides forbid it.
    """
    programs = _programs(mapped, node, before, after, outputs)
    if not programs.map_inputs:
        return False
    try:
        programs.encode()
    except ProgramTooLargeError:
        return False
    image = _is_image(lowering, mapped, programs)
    outs = [lowering.define(value, image=image, strided=True) for value in outputs]
    return _emit(lowering, node, mapped, programs, outs, name)


def emit_reduction(lowering: Lowering, node: Node, mapped: MapReduction, out: View) -> None:
    """Emit what ``mapped`` computes into ``out``, also of no elements: one dispatch where the
    kernel's limits and strides allow it, else three.
    """
    builder, finish = Builder(), Builder()
    value = mapped.map(builder, builder.load)
    accumulator = Accumulator(ACCUMULATOR_DTYPES[value.type])
    result = mapped.finish(finish, finish.load(accumulator))
    programs = _Programs(builder, value, finish, accumulator, [result])
    name = "+".join(node.origins)
    if prod(mapped.shape) and _emit(lowering, node, mapped, programs, [out], name):
        return
    values = lowering.temporary(f"{node.name}.values", mapped.shape, accumulator.dtype)
    emit_program(lowering, values, builder, value, node)
    kept = [n for d, n in enumerate(mapped.shape) if d not in mapped.dims]
    total = lowering.temporary(f"{node.name}.total", kept, accumulator.dtype)
    fields = {"op": REDUCE_OPS[mapped.combine]}
    emit_rows(lowering, node, "reduce", fields, mapped.dims, {"x": values}, {"y": total})
    for d in sorted(mapped.dims) if mapped.keepdim else ():
        total = total.insert(d)
    ending = Builder()
    emit_program(lowering, out, ending, mapped.finish(ending, ending.load(total)), node)


def _emit(
    lowering: Lowering,
    node: Node,
    mapped: MapReduction,
    programs: _Programs,
    outs: Sequence[View],
    name: str,
) -> bool:
    """Emit the dispatch that stores to ``outs``; False where limits or strides forbid it."""
    stored = zip(outs, programs.stored, strict=True)
    programs.stored = [programs.finish.result_for(register, out.dtype) for out, register in stored]
    views = _Views(lowering, mapped, programs, outs)
    operands = views.operands()
    try:
        code, count, whole = programs.encode()
    except ProgramTooLargeError:
        return False
    if operands is None:
        return False
    fields = {
        "op": COMBINE_OPS[mapped.combine],
        "dtype": DTYPES[programs.accumulator.dtype].id,
        "num_map": count,
        "num_instructions": whole,
        "code": code + [0] * (4 * MAX_INSTRUCTIONS - len(code)),
    }
    lowering.dispatch("map_reduce", node, fields, operands, name=name)
    if not views.padded:
        zero_paddings(lowering, node, *outs)
    return True


def _is_image(lowering: Lowering, mapped: MapReduction, programs: _Programs) -> bool:
    """Whether results lie as images do: those of an image whose channels are not reduced."""
    first = [h for h in programs.map_inputs if isinstance(h, Value)]
    second = [h for h in programs.finish_inputs if isinstance(h, Value)]
    spatial = len(mapped.shape) == 4 and 1 not in mapped.dims
    return (spatial and lowering.is_image(*first)) or lowering.is_image(*second)


class _Views:
    """The operands of a dispatch before their dimensions become the kernel's axes."""

    def __init__(
        self,
        lowering: Lowering,
        mapped: MapReduction,
        programs: _Programs,
        outs: Sequence[View],
    ) -> None:
        self.dims = sorted(mapped.dims)
        self.keepdim = mapped.keepdim
        self.shape = mapped.shape
        self.outs = list(outs)
        first = {h: operand_view(lowering, h, outs[0]) for h in programs.map_inputs}
        second = {h: operand_view(lowering, h, outs[0]) for h in programs.finish_inputs}
        # Padding that is computed along with the rest.
        padding = self._padding({**first, **second}, programs)
        self.padded = padding is not None
        if padding is not None:
            d, extent = padding.dim, padding.extent
            self.shape = (*self.shape[:d], extent, *self.shape[d + 1 :])
            self.outs = [out.padded() for out in self.outs]
            first = {h: padding.extend(view) for h, view in first.items()}
            second = {h: padding.extend(view) for h, view in second.items()}
        self.first = [replace(v, pad=None).expand(self.shape) for v in first.values()]
        self.second = [replace(v, pad=None).expand(self.outs[0].shape) for v in second.values()]

    def _padding(self, views: dict[Handle, View], programs: _Programs) -> Padding | None:
        pads = {out.pad for out in self.outs}
        pad = pads.pop()
        if pads or pad is None or not self.keepdim or pad[0] in self.dims:
            return None
        padding = Padding(len(self.shape), pad[0], self.shape[pad[0]], pad[1])
        lanes = {handle: padding.lane(view) for handle, view in views.items()}
        zeros = {h: 0.0 if lane == "zero" else None for h, lane in lanes.items()}
        fits = "nothing" not in lanes.values() and programs.keeps_zero(zeros)
        return padding if fits else None

    def _spread(self, view: View) -> View:
        """A view of the results' shape with reduced dimensions of size 1."""
        view = replace(view, pad=None)
        for d in () if self.keepdim else self.dims:
            view = view.insert(d)
        return view

    def operands(self) -> dict[str, View | None] | None:
        """Every operand with the kernel's axes; None where some strides forbid it."""
        kept = [d for d in range(len(self.shape)) if d not in self.dims]
        second = [self._spread(view) for view in self.second]
        outs = [self._spread(view) for view in self.outs]
        outer = merged_axes([*self.first, *second, *outs], kept, len(KEPT_AXES))
        repeated = [replace(v.expand(self.shape), pad=None) for v in second]
        inner = merged_axes([*self.first, *repeated], self.dims, len(REDUCED_AXES))
        if outer is None or inner is None:
            return None
        operands: dict[str, View | None] = {f"in{k}": None for k in range(ACCUMULATOR_INPUT)}
        operands |= {f"out{k}": None for k in range(ACCUMULATOR_OUTPUT)}
        inputs = [*self.first, *second]
        names = [f"in{k}" for k in range(len(inputs))] + [f"out{k}" for k in range(len(outs))]
        for at, (operand, view) in enumerate(zip(names, [*inputs, *outs], strict=True)):
            axes = outer[at] + (inner[at] if at < len(inputs) else [])
            shape, strides = tuple(n for n, _ in axes), tuple(s for _, s in axes)
            operands[operand] = View(view.storage, shape, strides, view.offset)
        return operands
