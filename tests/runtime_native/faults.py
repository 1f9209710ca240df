"""Faults for the verifier's tests: changes to a good program, each of which is one error."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.scalar_ops import Instruction
from npu_compiler.program import schema
from npu_runtime import _native
from npu_runtime.errors import ProgramError
from tests.runtime_native.npubin_builder import Builder
from tests.runtime_native.toy_program import elementwise_fields, toy_program

Mutation = Callable[[Builder], object]


def put(section: str, index: int, **values: object) -> Mutation:
    """Overwrite fields of a record."""
    return lambda b: b.sections[section][index].update(values)


def item(section: str, index: int, field: str, at: int, value: object) -> Mutation:
    """Overwrite one element of an array field."""

    def mutate(b: Builder) -> None:
        record = b.sections[section][index]
        spec = next(f for f in schema.SECTIONS[section].fields if f.name == field)
        values = list(record.get(field, ()))
        values += [0] * (spec.count - len(values))
        values[at] = value
        record[field] = tuple(values)

    return mutate


def drop(section: str, index: int) -> Mutation:
    """Remove a record."""
    return lambda b: b.sections[section].pop(index)


def raw(section: str, at: int, data: bytes) -> Mutation:
    """Overwrite bytes of a raw section."""

    def mutate(b: Builder) -> None:
        b.raw[section][at : at + len(data)] = data

    return mutate


def both(*mutations: Mutation) -> Mutation:
    """Several changes that make one fault."""

    def mutate(b: Builder) -> None:
        for m in mutations:
            m(b)

    return mutate


def code(*instructions: Instruction) -> Mutation:
    """Replace the elementwise program (dispatch 1)."""

    def mutate(b: Builder) -> None:
        fields = KERNELS["elementwise"].pack_fields(elementwise_fields(*instructions))
        at = b.sections["DISPATCHES"][1]["field_offset"]
        b.raw["FIELDS"][at : at + len(fields)] = fields
        b.sections["DISPATCHES"][1]["flops"] = 3 * len(instructions)

    return mutate


def check_fault(mutation: Mutation, pattern: str) -> None:
    """The toy program is good; with the fault it is a ProgramError that matches ``pattern``."""
    builder = toy_program()
    _native.Program.from_bytes(builder.build())
    mutation(builder)
    with pytest.raises(ProgramError) as caught:
        _native.Program.from_bytes(builder.build())
    message = str(caught.value)
    assert re.search(pattern, message), message
    assert "compile the model again" in message


def parameters(**groups: list[tuple[str, Mutation, str]]) -> list[object]:
    """pytest parameters (mutation, pattern) with ids like ``buffers-kind``."""
    return [
        pytest.param(mutation, pattern, id=f"{group}-{name}")
        for group, cases in groups.items()
        for name, mutation, pattern in cases
    ]
