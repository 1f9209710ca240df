"""Reads .npubin bytes into a CompiledProgram, checking everything that it relies on.

The native reader verifies a program for execution; this one makes sure that what it hands out is
well-formed. A bad file gets one ProgramFormatError that names the section, the record and the
value.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from npu_compiler.compiled_program import (
    BufferAllocation,
    CompiledProgram,
    EntryPoint,
    KernelCall,
    OperandView,
    SourceLocation,
    SourceTensor,
    TensorSpec,
)
from npu_compiler.errors import RecipeError
from npu_compiler.kernels import KERNELS_BY_ID
from npu_compiler.program import schema
from npu_compiler.program.container import Container, Row
from npu_compiler.program.recipes import SOURCE_ROLES, Recipe, RecipeStep
from npu_compiler.program.schema import NONE
from npu_compiler.program.writer import COMPUTE_DTYPE, MODEL_NAME, WEIGHT_NAME_MAPPING


def _names(table: dict[str, int]) -> dict[int, str]:
    return {number: name for name, number in table.items()}


_BUFFER_KINDS = _names(schema.BUFFER_KINDS)
_LAYOUTS = _names(schema.LAYOUTS)
_ACCESS = _names(schema.ACCESS)
_RECIPE_OPS = _names(schema.RECIPE_OPS)


def read_program(data: bytes, where: str = ".npubin") -> CompiledProgram:
    """The program in ``data``; ``where`` names the file in errors. Raises ProgramFormatError."""
    r = Container(data, where)
    metadata = {row["key"]: row["value"] for row in r.rows("METADATA")}
    buffers = _buffers(r)
    tensors = _tensors(r, len(buffers), buffers)
    sources = _source_tensors(r)
    weights, recipes = _weights(r, sources, len(tensors))
    calls = _calls(r, len(buffers), len(tensors))
    entries = _entries(r, len(calls), len(tensors))
    if not entries:
        raise r.fail("ENTRY_POINTS: the program has no entry point")
    mapping = _mapping(r, metadata.pop(WEIGHT_NAME_MAPPING, "{}"))
    return CompiledProgram(
        model_name=metadata.pop(MODEL_NAME, ""),
        compute_dtype=metadata.pop(COMPUTE_DTYPE, ""),
        tensors=tensors,
        buffer_allocations=_described(buffers, tensors),
        kernel_calls=calls,
        weight_tensors=weights,
        weight_recipes=recipes,
        source_tensors=sources,
        entry_points=entries,
        constants=r.data[
            r.sections["CONSTANTS"].offset : r.sections["CONSTANTS"].offset
            + r.sections["CONSTANTS"].count
        ],
        metadata=metadata,
        weight_name_mapping=mapping,
    )


def _mapping(r: Container, text: str) -> dict[str, str]:
    try:
        mapping = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise r.fail(f"METADATA: {WEIGHT_NAME_MAPPING} is not JSON: {error}") from None
    if not isinstance(mapping, dict) or not all(isinstance(v, str) for v in mapping.values()):
        raise r.fail(f"METADATA: {WEIGHT_NAME_MAPPING} does not map names to names")
    return mapping


def _buffers(r: Container) -> list[BufferAllocation]:
    rows = r.rows("BUFFERS")
    found = []
    for i, row in enumerate(rows):
        where = f"BUFFERS[{i}]"
        kind = r.pick(_BUFFER_KINDS, row["kind"], f"{where}: kind")
        limit = r.sections["CONSTANTS"].count if kind == "constant" else schema.MAX_ARENA_BYTES
        if row["size"] > limit or row["offset"] > limit - row["size"]:
            raise r.fail(f"{where}: {row['size']} bytes at {row['offset']} exceed {limit}")
        found.append(
            BufferAllocation(
                row["name"],
                kind,
                row["size"],
                row["offset"],
                r.optional(row["alias_of"], len(rows), f"{where}: alias_of"),
                row["first_use"],
                row["last_use"],
                dtype="uint8",
            )
        )
    return found


def _tensors(
    r: Container, buffer_count: int, buffers: Sequence[BufferAllocation]
) -> tuple[TensorSpec, ...]:
    found = []
    for i, row in enumerate(r.rows("TENSORS")):
        where = f"TENSORS[{i}]"
        rank = row["rank"]
        spec = TensorSpec(
            name=row["name"],
            shape=r.ranked(row["shape"], rank, where),
            dtype=r.dtype(row["ir_dtype"], where),
            alloc_shape=r.ranked(row["alloc_shape"], rank, where),
            storage_dtype=r.dtype(row["dtype"], where),
            layout=r.pick(_LAYOUTS, row["layout"], f"{where}: layout"),
            strides=r.ranked(row["strides"], rank, where),
            buffer=r.below(row["buffer"], buffer_count, f"{where}: buffer"),
            offset=row["offset"],
        )
        for n, m in zip(spec.shape, spec.alloc_shape, strict=True):
            if n > m or m > schema.MAX_DIM:
                raise r.fail(f"{where}: shape {spec.shape} exceeds alloc_shape {spec.alloc_shape}")
        if spec.layout == "channels_last" and rank != 4:
            raise r.fail(f"{where}: a channels_last tensor has rank 4, not {rank}")
        if spec.offset + spec.size_bytes > buffers[spec.buffer].size_bytes:
            raise r.fail(f"{where} ({spec.name!r}) does not fit into its buffer")
        found.append(spec)
    return tuple(found)


def _described(
    buffers: Sequence[BufferAllocation], tensors: Sequence[TensorSpec]
) -> tuple[BufferAllocation, ...]:
    """Buffers with the shape and dtype of the tensor that each was made for."""
    found = list(buffers)
    described: set[int] = set()
    for t in tensors:
        if t.buffer in described:
            continue
        described.add(t.buffer)
        b = buffers[t.buffer]
        found[t.buffer] = BufferAllocation(
            b.name,
            b.kind,
            b.size_bytes,
            b.offset,
            b.alias_of,
            b.first_use,
            b.last_use,
            t.shape,
            t.alloc_shape,
            t.storage_dtype,
        )
    return tuple(found)


def _source_tensors(r: Container) -> tuple[SourceTensor, ...]:
    return tuple(
        SourceTensor(
            row["name"],
            r.ranked(row["shape"], row["rank"], f"SOURCE_TENSORS[{i}]"),
            r.dtype(row["dtype"], f"SOURCE_TENSORS[{i}]"),
        )
        for i, row in enumerate(r.rows("SOURCE_TENSORS"))
    )


def _weights(
    r: Container, sources: Sequence[SourceTensor], tensor_count: int
) -> tuple[tuple[int, ...], tuple[Recipe, ...]]:
    # Many weights share steps (the same cast, the same permutation): each is checked once.
    known: dict[tuple[object, ...], RecipeStep] = {}
    steps = []
    for i, row in enumerate(r.rows("RECIPES")):
        key = tuple(row.values())
        step = known.get(key)
        if step is None:
            step = known[key] = _step(r, row, f"RECIPES[{i}]", sources)
        steps.append(step)
    tensors, recipes = [], []
    for i, row in enumerate(r.rows("WEIGHTS")):
        where = f"WEIGHTS[{i}]"
        tensors.append(r.below(row["tensor"], tensor_count, f"{where}: tensor"))
        span = r.span(row["recipe_first"], row["recipe_count"], len(steps), where)
        recipes.append(tuple(steps[k] for k in span))
    return tuple(tensors), tuple(recipes)


def _step(r: Container, row: Row, where: str, sources: Sequence[SourceTensor]) -> RecipeStep:
    op = r.pick(_RECIPE_OPS, row["op"], f"{where}: op")
    used = len(SOURCE_ROLES.get(op, ()))
    if any(index != NONE for index in row["sources"][used:]):
        raise r.fail(f"{where}: {op} takes {used} sources")
    names = tuple(
        None if index == NONE else sources[r.below(index, len(sources), f"{where}: source")].name
        for index in row["sources"][:used]
    )
    dtype = r.dtype(row["dtype"], where) if op == "cast" else None
    args = r.ranked(row["args"], row["arg_count"], where)
    try:
        return RecipeStep(op, names, args, row["value"], dtype)
    except RecipeError as error:
        raise r.fail(f"{where}: {error}") from None


def _calls(r: Container, buffer_count: int, tensor_count: int) -> tuple[KernelCall, ...]:
    operands = r.rows("OPERANDS")
    locations = [
        SourceLocation(row["node"], row["op_type"], row["module"], row["file"], row["line"])
        for row in r.rows("SOURCES")
    ]
    fields = r.sections["FIELDS"]
    calls = []
    for i, row in enumerate(r.rows("DISPATCHES")):
        where = f"DISPATCHES[{i}] ({row['name']!r})"
        kernel = r.pick(KERNELS_BY_ID, row["kernel"], f"{where}: kernel")
        span = r.span(row["operand_first"], row["operand_count"], len(operands), where)
        if len(span) != len(kernel.operands) or row["field_size"] != kernel.field_bytes:
            raise r.fail(
                f"{where}: {len(span)} operands and {row['field_size']} bytes of fields do not fit "
                f"{kernel.name}"
            )
        r.span(row["field_offset"], row["field_size"], fields.count, f"{where}: fields")
        start = fields.offset + row["field_offset"]
        bound = []
        for operand, k in zip(kernel.operands, span, strict=True):
            place = f"OPERANDS[{k}]"
            bound.append(_operand(r, operands[k], operand.name, place, buffer_count, tensor_count))
        source = r.optional(row["source"], len(locations), f"{where}: source")
        calls.append(
            KernelCall(
                name=row["name"],
                kernel_name=kernel.name,
                operands=tuple(bound),
                params=kernel.unpack_fields(r.data[start : start + row["field_size"]]),
                grid=row["grid"],
                threadgroup=row["threadgroup"],
                flops=row["flops"],
                bytes=row["bytes"],
                source=None if source is None else locations[source],
            )
        )
    return tuple(calls)


def _operand(
    r: Container, row: Row, name: str, where: str, buffer_count: int, tensor_count: int
) -> OperandView | None:
    if row["buffer"] == NONE:
        return None
    return OperandView(
        name=name,
        buffer=r.below(row["buffer"], buffer_count, f"{where}: buffer"),
        offset=row["offset"],
        dtype=r.dtype(row["dtype"], where),
        shape=r.ranked(row["shape"], row["rank"], where),
        strides=r.ranked(row["strides"], row["rank"], where),
        access=r.pick(_ACCESS, row["access"], f"{where}: access"),
        tensor=r.optional(row["tensor"], tensor_count, f"{where}: tensor"),
    )


def _entries(r: Container, call_count: int, tensor_count: int) -> tuple[EntryPoint, ...]:
    ios = r.rows("IOS")
    entries = []
    for i, row in enumerate(r.rows("ENTRY_POINTS")):
        where = f"ENTRY_POINTS[{i}]"
        r.span(row["dispatch_first"], row["dispatch_count"], call_count, where)

        def named(first: int, count: int, where: str = where) -> tuple[tuple[str, int], ...]:
            found = []
            for k in r.span(first, count, len(ios), where):
                tensor = r.below(ios[k]["tensor"], tensor_count, f"IOS[{k}]: tensor")
                found.append((ios[k]["name"], tensor))
            return tuple(found)

        r.span(row["output_first"], row["output_count"], len(ios), where)
        donors = tuple(
            r.optional(ios[k]["donor"], row["input_count"], f"IOS[{k}]: donor")
            for k in range(row["output_first"], row["output_first"] + row["output_count"])
        )
        entries.append(
            EntryPoint(
                row["name"],
                row["dispatch_first"],
                row["dispatch_count"],
                named(row["input_first"], row["input_count"]),
                named(row["output_first"], row["output_count"]),
                row["arena_size"],
                donors if any(donor is not None for donor in donors) else (),
            )
        )
    return tuple(entries)
