"""What is in a program, as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from npu_compiler.compiled_program import CompiledProgram, ProgramEntry, TensorSpec


def summarize(program: CompiledProgram) -> dict[str, Any]:
    """Inputs and outputs (of the first entry point, and of each), dispatches per kernel, memory
    (bytes) and weights.
    """
    kernels: dict[str, dict[str, Any]] = {}
    for call in program.kernel_calls:
        row = kernels.setdefault(
            call.kernel_name, {"name": call.kernel_name, "dispatches": 0, "flops": 0, "bytes": 0}
        )
        row["dispatches"] += 1
        row["flops"] += call.flops
        row["bytes"] += call.bytes
    return {
        "model_name": program.model_name,
        "compute_dtype": program.compute_dtype,
        "inputs": [_tensor(s) for s in program.input_specs],
        "outputs": [_tensor(s) for s in program.output_specs],
        "entry_points": [_entry(program.entry(e.name)) for e in program.entry_points],
        "num_dispatches": len(program.kernel_calls),
        "kernels": sorted(kernels.values(), key=lambda row: -row["flops"]),
        "flops": sum(call.flops for call in program.kernel_calls),
        "arena_bytes": program.arena_size,
        "arena_lower_bound_bytes": arena_lower_bound(program),
        "num_weights": len(program.weight_specs),
        "weight_bytes": sum(spec.size_bytes for spec in program.weight_specs),
        "num_source_tensors": len(program.source_tensors),
        "metadata": dict(program.metadata),
    }


def arena_lower_bound(program: CompiledProgram) -> int:
    """Most bytes of intermediates live at once; 0 where the compiler did not say."""
    return int(program.metadata.get("arena_lower_bound", 0))


def _entry(entry: ProgramEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "inputs": [_tensor(s) for s in entry.input_specs],
        "outputs": [_tensor(s) for s in entry.output_specs],
        "num_dispatches": len(entry.kernel_calls),
        "arena_bytes": entry.arena_size,
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "shape": list(spec.shape),
        "dtype": spec.dtype,
        "storage_dtype": spec.storage_dtype,
        "alloc_shape": list(spec.alloc_shape),
        "layout": spec.layout,
    }
