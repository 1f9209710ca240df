"""Graph passes. ``canonicalize`` makes the graph functional and free of no-ops; ``optimize`` folds
and fuses.
"""

from __future__ import annotations

from collections.abc import Callable

from npu_compiler.fusions import fuse_patterns
from npu_compiler.graph import IRGraph
from npu_compiler.graph_checker import check_graph, checking
from npu_compiler.passes.broadcasts import split_broadcasts
from npu_compiler.passes.constants import fold_constants
from npu_compiler.passes.dead_code import eliminate_dead_code
from npu_compiler.passes.functionalize import functionalize
from npu_compiler.passes.fusion import fuse_epilogues
from npu_compiler.passes.index_arithmetic import simplify_index_arithmetic
from npu_compiler.passes.merge_linears import merge_linears
from npu_compiler.passes.noop import eliminate_noops, resolve_getitems
from npu_compiler.passes.outer_products import multiply_outer_products
from npu_compiler.passes.position_masks import hide_by_infinity, use_positions
from npu_compiler.passes.rotary_cache import fuse_rotary_cache
from npu_compiler.passes.rotary_tables import halve_rotary_tables
from npu_compiler.passes.streamed_linears import (
    choose_weights_in_place,
    gate_linears,
    stream_linears,
)
from npu_compiler.passes.transposed_linears import use_transposed_linears

Pass = Callable[[IRGraph], None]
CANONICALIZE: tuple[Pass, ...] = (
    resolve_getitems,
    split_broadcasts,
    functionalize,
    eliminate_noops,
    fold_constants,
    eliminate_dead_code,
)
OPTIMIZE: tuple[Pass, ...] = (
    simplify_index_arithmetic,
    multiply_outer_products,
    use_transposed_linears,
    hide_by_infinity,
    fuse_patterns,
    use_positions,
    halve_rotary_tables,
    eliminate_dead_code,
    fuse_rotary_cache,
    choose_weights_in_place,
    gate_linears,
    merge_linears,
    fuse_epilogues,
    stream_linears,
    eliminate_dead_code,
)


def run_passes(graph: IRGraph, passes: tuple[Pass, ...], check: bool | None = None) -> IRGraph:
    """Run ``passes`` on ``graph`` in place; with ``check`` (default: NPU_COMPILER_CHECK=1) verify
    it after each.
    """
    check = checking() if check is None else check
    if check:
        check_graph(graph, "the reader")
    for run in passes:
        run(graph)
        if check:
            check_graph(graph, run.__name__)
    return graph


def canonicalize(graph: IRGraph, check: bool | None = None) -> IRGraph:
    """In-place operators become functional, getitems and no-ops disappear, what no input decides
    becomes a constant, dead code goes.
    """
    return run_passes(graph, CANONICALIZE, check)


def optimize_graph(graph: IRGraph, check: bool | None = None) -> IRGraph:
    """Canonicalize, replace written-out operators (RMSNorm, GELU, ...) by one node each, then fold
    BatchNorm and fuse additions and clamps into matrix and convolution nodes.
    """
    return run_passes(graph, CANONICALIZE + OPTIMIZE, check)
