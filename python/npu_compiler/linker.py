"""``link``: programs become the entry points of one program, which share weights and constants."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from npu_compiler.compiled_program import (
    BufferAllocation,
    CompiledProgram,
    EntryPoint,
    KernelCall,
    OperandView,
    SourceTensor,
    TensorSpec,
)
from npu_compiler.errors import LinkError
from npu_compiler.program.recipes import Recipe
from npu_compiler.program.schema import ALIGNMENT

T = TypeVar("T")


def link(programs: Mapping[str, CompiledProgram]) -> CompiledProgram:
    """One program whose entry points are the given programs, by name and in their order.

    Weights with the same recipe and layout are one weight, source tensors and constants of the same
    content are stored once; tensors keep their names (a weight whose name means something else in
    an earlier program becomes ``entry.name``). The entry points use one arena, in turn.

    Raises LinkError: nothing or something else is given, a program has several entry points
    already, programs differ in compute dtype or target, or need one state_dict tensor in different
    shapes or dtypes.
    """
    _check(programs)
    linker = _Linker()
    for name, program in programs.items():
        linker.add(name, program)
    first = next(iter(programs.values()))
    return CompiledProgram(
        model_name=first.model_name,
        compute_dtype=first.compute_dtype,
        tensors=tuple(linker.tensors),
        buffer_allocations=tuple(linker.buffers),
        kernel_calls=tuple(linker.calls),
        weight_tensors=tuple(linker.weights.values()),
        weight_recipes=tuple(recipe for recipe, *_ in linker.weights),
        source_tensors=tuple(source for _, source in linker.sources.values()),
        entry_points=tuple(linker.entries),
        constants=bytes(linker.constants),
        metadata=_metadata(programs),
        weight_name_mapping=linker.mapping,
    )


def _check(programs: Mapping[str, CompiledProgram]) -> None:
    if not isinstance(programs, Mapping) or not programs:
        raise LinkError(
            f"link: a dict of entry point names and programs is needed, got {programs!r:.80}"
        )
    for name, program in programs.items():
        if not isinstance(name, str) or not name:
            raise LinkError(f"link: an entry point's name is a non-empty string, got {name!r}")
        if not isinstance(program, CompiledProgram):
            raise LinkError(
                f"link: {name!r} is a {type(program).__name__}, not a CompiledProgram: compile it"
            )
        if len(program.entry_points) != 1:
            raise LinkError(
                f"link: program {name!r} has {len(program.entry_points)} entry points "
                f"({[e.name for e in program.entry_points]}); link the programs that it was "
                "linked from"
            )
    first, *others = programs
    for name in others:
        for fact, values in (
            ("compute dtype", [p.compute_dtype for p in (programs[first], programs[name])]),
            ("target", [p.metadata.get("target") for p in (programs[first], programs[name])]),
        ):
            if values[0] != values[1]:
                raise LinkError(
                    f"link: {first!r} and {name!r} differ in {fact} ({values[0]} and {values[1]}): "
                    "compile both alike"
                )


class _Linker:
    """The tables of the program that is growing."""

    def __init__(self) -> None:
        self.tensors: list[TensorSpec] = []
        self.buffers: list[BufferAllocation] = []
        self.calls: list[KernelCall] = []
        self.entries: list[EntryPoint] = []
        self.constants = bytearray()
        self.mapping: dict[str, str] = {}
        # By state_dict key: the entry point that came with it, the tensor.
        self.sources: dict[str, tuple[str, SourceTensor]] = {}
        # Tensor indices by all that a weight is made from: recipe, layout, buffer size.
        self.weights: dict[tuple[Recipe, TensorSpec, int], int] = {}
        self._weight_names: set[str] = set()
        self._constant_buffers: dict[bytes, int] = {}

    def add(self, name: str, program: CompiledProgram) -> None:
        """Append a program as the entry point ``name``."""
        self._add_sources(name, program)
        buffers, tensors = self._add_weights(name, program)
        self._add_buffers(program, buffers)
        self._add_tensors(program, buffers, tensors)
        first_call = len(self.calls)
        for call in program.kernel_calls:
            operands = tuple(_moved(o, buffers, tensors) for o in call.operands)
            self.calls.append(replace(call, operands=operands))
        entry = program.entry_points[0]
        self.entries.append(
            replace(
                entry,
                name=name,
                dispatch_first=first_call,
                inputs=tuple((io, tensors[t]) for io, t in entry.inputs),
                outputs=tuple((io, tensors[t]) for io, t in entry.outputs),
            )
        )
        for placeholder, key in program.weight_name_mapping.items():
            taken = self.mapping.setdefault(placeholder, key)
            if taken != key:
                self.mapping[f"{name}.{placeholder}"] = key

    def _add_sources(self, name: str, program: CompiledProgram) -> None:
        for source in program.source_tensors:
            entry, known = self.sources.setdefault(source.name, (name, source))
            if known != source:
                raise LinkError(
                    f"link: state_dict tensor {source.name!r} is {known.dtype}{list(known.shape)} "
                    f"in {entry!r} and {source.dtype}{list(source.shape)} in {name!r}: entry "
                    "points are of one model"
                )

    def _add_weights(
        self, name: str, program: CompiledProgram
    ) -> tuple[dict[int, int], dict[int, int]]:
        """Adds the weights that are new: old -> new indices of their buffers and their tensors."""
        buffers: dict[int, int] = {}
        tensors: dict[int, int] = {}
        for old, recipe in zip(program.weight_tensors, program.weight_recipes, strict=True):
            spec = program.tensors[old]
            allocation = program.buffer_allocations[spec.buffer]
            key = (recipe, spec._replace(name="", buffer=0), allocation.size_bytes)
            known = self.weights.get(key)
            if known is None:
                unique = spec.name
                while unique in self._weight_names:
                    unique = f"{name}.{unique}"
                known = self.weights[key] = len(self.tensors)
                self._weight_names.add(unique)
                self.tensors.append(spec._replace(name=unique, buffer=len(self.buffers)))
                self.buffers.append(allocation._replace(name=unique))
            tensors[old] = known
            buffers[spec.buffer] = self.tensors[known].buffer
        return buffers, tensors

    def _add_buffers(self, program: CompiledProgram, buffers: dict[int, int]) -> None:
        """Adds all other buffers to the table and to ``buffers`` (old -> new index)."""
        first_call = len(self.calls)
        added: list[int] = []
        for old, buffer in enumerate(program.buffer_allocations):
            if old in buffers:
                continue
            if buffer.kind == "constant":
                buffers[old] = self._constant(program, buffer)
                continue
            if buffer.kind == "arena":
                buffer = buffer._replace(
                    first_use=buffer.first_use + first_call, last_use=buffer.last_use + first_call
                )
            buffers[old] = len(self.buffers)
            added.append(len(self.buffers))
            self.buffers.append(buffer)
        for new in added:
            before = self.buffers[new].alias_of
            if before is not None:
                self.buffers[new] = self.buffers[new]._replace(alias_of=buffers[before])

    def _constant(self, program: CompiledProgram, buffer: BufferAllocation) -> int:
        """Index of a constant buffer with this content, which is added where it is new."""
        content = program.constants[buffer.offset : buffer.offset + buffer.size_bytes]
        known = self._constant_buffers.get(content)
        if known is None:
            known = self._constant_buffers[content] = len(self.buffers)
            self.constants += bytes(-len(self.constants) % ALIGNMENT)
            self.buffers.append(buffer._replace(offset=len(self.constants)))
            self.constants += content
        return known

    def _add_tensors(
        self, program: CompiledProgram, buffers: Mapping[int, int], tensors: dict[int, int]
    ) -> None:
        for old, spec in enumerate(program.tensors):
            if old not in tensors:
                tensors[old] = len(self.tensors)
                self.tensors.append(spec._replace(buffer=buffers[spec.buffer]))


def _moved(
    operand: OperandView | None, buffers: Mapping[int, int], tensors: Mapping[int, int]
) -> OperandView | None:
    if operand is None:
        return None
    tensor = None if operand.tensor is None else tensors[operand.tensor]
    return operand._replace(buffer=buffers[operand.buffer], tensor=tensor)


def _metadata(programs: Mapping[str, CompiledProgram]) -> dict[str, str]:
    """The first program's, with copies added up; ``entries`` holds each program's own (JSON)."""
    first = next(iter(programs.values())).metadata
    facts = {name: dict(program.metadata) for name, program in programs.items()}
    merged = {**first, "entries": json.dumps(facts, sort_keys=True)}
    copies = _numbers([p.metadata for p in programs.values()], "copies")
    bounds = _numbers([p.metadata for p in programs.values()], "arena_lower_bound")
    if copies:
        merged["copies"] = str(sum(copies))
    if bounds:
        merged["arena_lower_bound"] = str(max(bounds))
    return merged


def _numbers(every: Sequence[Mapping[str, str]], key: str) -> list[int]:
    return [int(metadata[key]) for metadata in every if key in metadata]
