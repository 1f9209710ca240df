"""Code generation: a lowered graph and its memory plan become a CompiledProgram."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod

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
from npu_compiler.dtypes import DTYPES
from npu_compiler.errors import CompilerError
from npu_compiler.graph import IRGraph
from npu_compiler.kernels.expr import evaluate
from npu_compiler.kernels.record import KernelRuleError
from npu_compiler.lowering import Dispatch, Lowering
from npu_compiler.memory import MemoryPlan
from npu_compiler.program.recipes import recipe_sources
from npu_compiler.view import Storage, View

_MAX_GRID = 0xFFFFFFFF


class _Layout:
    """Assigns buffer, tensor and constant positions to storages: inputs, outputs, arena, weights,
    constants.
    """

    def __init__(self, lowering: Lowering, plan: MemoryPlan) -> None:
        self.plan = plan
        parameters = {p.storage: p for p in lowering.parameters}
        order = {"input": 0, "output": 1, "arena": 2, "weight": 3, "constant": 4}
        kept = [s for s in lowering.storages if s.kind != "arena" or s in plan.lifetimes]
        self.storages = sorted(kept, key=lambda s: order[s.kind])
        self.index = {storage: i for i, storage in enumerate(self.storages)}
        self.constants = bytearray()
        self.constant_offsets: dict[Storage, int] = {}
        for storage in self.storages:
            if storage.kind == "constant":
                data = parameters[storage].data
                self.constant_offsets[storage] = len(self.constants)
                content = b"" if data is None else data.tobytes()
                self.constants += content.ljust(storage.size_bytes, b"\0")

    def buffer(self, storage: Storage) -> BufferAllocation:
        plan = self.plan
        life = plan.lifetimes.get(storage)
        before = plan.alias_of.get(storage)
        return BufferAllocation(
            name=storage.name,
            kind=storage.kind,
            size_bytes=storage.size_bytes,
            offset=plan.offsets.get(storage, self.constant_offsets.get(storage, 0)),
            alias_of=None if before is None else self.index[before],
            first_use=life.first if life else 0,
            last_use=life.last if life else 0,
            shape=storage.shape,
            alloc_shape=storage.alloc_shape,
            dtype=storage.dtype,
        )

    def tensor(self, storage: Storage) -> TensorSpec:
        return TensorSpec(
            name=storage.name,
            shape=storage.shape,
            dtype=storage.ir_dtype,
            alloc_shape=storage.alloc_shape,
            storage_dtype=storage.dtype,
            layout=storage.layout,
            strides=storage.strides,
            buffer=self.index[storage],
        )


def generate(
    graph: IRGraph, lowering: Lowering, plan: MemoryPlan, metadata: Mapping[str, str]
) -> CompiledProgram:
    """The program of a lowered graph. Raises CompilerError where a dispatch breaks its kernel's
    rules.
    """
    layout = _Layout(lowering, plan)
    by_key = {v.key: v for v in graph.weights.values() if v.kind == "weight"}
    keys = dict.fromkeys(k for p in lowering.parameters for k in recipe_sources(p.recipe))
    sources = tuple(SourceTensor(key, by_key[key].shape, by_key[key].dtype) for key in keys)
    weights = [p for p in lowering.parameters if p.storage.kind == "weight"]
    outputs = [s for s in (*lowering.outputs, *lowering.kept.values()) if s is not None]
    inputs = [s for s in layout.storages if s.kind == "input"]
    calls = tuple(_call(layout, dispatch) for dispatch in lowering.dispatches)
    entry = EntryPoint(
        "main",
        0,
        len(calls),
        tuple((s.name, layout.index[s]) for s in inputs),
        tuple((s.name, layout.index[s]) for s in outputs),
        plan.arena_size,
        tuple(lowering.donors.get(slot) for slot in range(len(outputs))) if lowering.donors else (),
    )
    copies = sum(d.is_copy for d in lowering.dispatches)
    facts = {
        "copies": str(copies),
        "arena_lower_bound": str(plan.lower_bound),
        "target": json.dumps(lowering.target.to_dict(), sort_keys=True),
    }
    if lowering.kept:
        facts["kept"] = json.dumps({s.name: value for value, s in lowering.kept.items()})
    return CompiledProgram(
        model_name=graph.model_name,
        compute_dtype=lowering.precision.compute_dtype,
        tensors=tuple(layout.tensor(s) for s in layout.storages),
        buffer_allocations=tuple(layout.buffer(s) for s in layout.storages),
        kernel_calls=calls,
        weight_tensors=tuple(layout.index[p.storage] for p in weights),
        weight_recipes=tuple(p.recipe for p in weights),
        source_tensors=sources,
        entry_points=(entry,),
        constants=bytes(layout.constants),
        metadata={**facts, **metadata},
        weight_name_mapping=dict(graph.weight_name_mapping),
    )


def _operand(layout: _Layout, name: str, view: View, access: str) -> OperandView:
    index = layout.index[view.storage]
    return OperandView(
        name=name,
        buffer=index,
        offset=view.offset * DTYPES[view.dtype].size,
        dtype=view.dtype,
        shape=view.shape,
        strides=view.strides,
        access=access,
        tensor=index,
    )


def _call(layout: _Layout, dispatch: Dispatch) -> KernelCall:
    kernel = dispatch.kernel
    views = dispatch.operands
    if set(views) != {o.name for o in kernel.operands}:
        raise CompilerError(f"{dispatch.name}: {kernel.name} is bound as {sorted(views)}")
    shapes = {name: None if view is None else view.shape for name, view in views.items()}
    try:
        env = kernel.check(shapes, dispatch.fields)
        params = kernel.unpack_fields(kernel.pack_fields(dispatch.fields))
    except KernelRuleError as error:
        raise CompilerError(f"{dispatch.name}: {error}") from error
    _check_types(dispatch)
    grid = kernel.grid(env)
    if max(grid) > _MAX_GRID:
        raise CompilerError(f"{dispatch.name}: the grid {grid} is larger than a launch can be")
    source = dispatch.source
    node = dispatch.node
    moved = sum(_bytes_touched(dispatch, name, env) for name in views)
    return KernelCall(
        name=dispatch.name,
        kernel_name=kernel.name,
        operands=tuple(
            None if (v := views[o.name]) is None else _operand(layout, o.name, v, o.access)
            for o in kernel.operands
        ),
        params=params,
        grid=grid,
        threadgroup=kernel.launch.threadgroup,
        flops=kernel.flop_count(env),
        bytes=moved,
        source=None
        if source is None or node is None
        else SourceLocation(
            node.origins[-1], node.op_type, source.module, source.file, source.line
        ),
    )


def _bytes_touched(dispatch: Dispatch, name: str, env: Mapping[str, int]) -> int:
    """Bytes of an operand that are read or written at least once, at most all of it."""
    view = dispatch.operands[name]
    if view is None:
        return 0
    elements = prod(view.shape)
    touched = dispatch.kernel.touches.get(name)
    if touched is not None:
        elements = min(elements, evaluate(touched, env))
    return elements * DTYPES[view.dtype].size


def _check_types(dispatch: Dispatch) -> None:
    """Operands of a kernel's type variable have one dtype, which the kernel has a variant for."""
    kernel = dispatch.kernel
    bound: str | None = None
    for operand in kernel.operands:
        view = dispatch.operands[operand.name]
        if view is None or operand.dtype == "any":
            continue
        short = DTYPES[view.dtype].short
        if operand.dtype in kernel.types:
            fits = short in kernel.types[operand.dtype] and bound in (None, short)
            bound = short
        else:
            fits = short == operand.dtype
        if not fits:
            raise CompilerError(
                f"{dispatch.name}: operand {operand.name} of {kernel.name} cannot be {view.dtype}"
            )
