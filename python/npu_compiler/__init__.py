"""npu_compiler: IR JSON -> NPU program (.npubin). Pure Python and numpy; never imports torch or the
runtime.

Names are imported when first used, so that ``npu_compiler.kernels`` and
``npu_compiler.program.schema`` need nothing but the standard library (the native build reads them
in a bare interpreter).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from npu_compiler.cache import CacheEntry, CacheWarning, ProgramCache
    from npu_compiler.compiled_program import (
        BufferAllocation,
        CompiledProgram,
        KernelCall,
        ProgramEntry,
        TensorSpec,
    )
    from npu_compiler.compiler import compile, compile_graph, compile_ir
    from npu_compiler.constraints import Violation, check_constraints
    from npu_compiler.errors import (
        CacheError,
        CompileOptionError,
        CompilerError,
        ConstraintError,
        IRError,
        LinkError,
        PartitionError,
        ProgramFormatError,
        RecipeError,
        UnsupportedOpError,
    )
    from npu_compiler.explanation import Explanation, NodePlacement, explain
    from npu_compiler.graph import IRGraph
    from npu_compiler.ir_reader import load_ir, load_ir_from_dict
    from npu_compiler.linker import link
    from npu_compiler.ops import get_supported_ops, is_op_supported, op_support_reason
    from npu_compiler.partitioner import partition
    from npu_compiler.partitioning.cost import CostModel
    from npu_compiler.partitioning.plan import Partition, PartitionPlan, TransferOp
    from npu_compiler.passes import optimize_graph
    from npu_compiler.passes.fusion import find_fusion_groups
    from npu_compiler.target import TargetConfig

_EXPORTS = {
    "CacheEntry": "cache",
    "CacheError": "errors",
    "CacheWarning": "cache",
    "ProgramCache": "cache",
    "BufferAllocation": "compiled_program",
    "CompiledProgram": "compiled_program",
    "KernelCall": "compiled_program",
    "ProgramEntry": "compiled_program",
    "TensorSpec": "compiled_program",
    "compile": "compiler",
    "compile_graph": "compiler",
    "compile_ir": "compiler",
    "Violation": "constraints",
    "check_constraints": "constraints",
    "CompileOptionError": "errors",
    "CompilerError": "errors",
    "ConstraintError": "errors",
    "IRError": "errors",
    "LinkError": "errors",
    "PartitionError": "errors",
    "ProgramFormatError": "errors",
    "RecipeError": "errors",
    "UnsupportedOpError": "errors",
    "Explanation": "explanation",
    "NodePlacement": "explanation",
    "explain": "explanation",
    "IRGraph": "graph",
    "load_ir": "ir_reader",
    "load_ir_from_dict": "ir_reader",
    "link": "linker",
    "get_supported_ops": "ops",
    "is_op_supported": "ops",
    "op_support_reason": "ops",
    "CostModel": "partitioning.cost",
    "Partition": "partitioning.plan",
    "PartitionPlan": "partitioning.plan",
    "TransferOp": "partitioning.plan",
    "partition": "partitioner",
    "optimize_graph": "passes",
    "find_fusion_groups": "passes.fusion",
    "TargetConfig": "target",
}

__all__ = [
    "BufferAllocation",
    "CacheEntry",
    "CacheError",
    "CacheWarning",
    "CompileOptionError",
    "CompiledProgram",
    "CompilerError",
    "ConstraintError",
    "CostModel",
    "Explanation",
    "IRError",
    "IRGraph",
    "KernelCall",
    "LinkError",
    "NodePlacement",
    "Partition",
    "PartitionError",
    "PartitionPlan",
    "ProgramCache",
    "ProgramEntry",
    "ProgramFormatError",
    "RecipeError",
    "TargetConfig",
    "TensorSpec",
    "TransferOp",
    "UnsupportedOpError",
    "Violation",
    "check_constraints",
    "compile",
    "compile_graph",
    "compile_ir",
    "explain",
    "find_fusion_groups",
    "get_supported_ops",
    "is_op_supported",
    "link",
    "load_ir",
    "load_ir_from_dict",
    "op_support_reason",
    "optimize_graph",
    "partition",
]


def __getattr__(name: str) -> object:
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module 'npu_compiler' has no attribute {name!r}")
    value = getattr(import_module(f"npu_compiler.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
