"""``compile``: an IR becomes a CompiledProgram."""

from __future__ import annotations

from collections.abc import Collection

from npu_compiler.codegen import generate
from npu_compiler.compiled_program import CompiledProgram
from npu_compiler.constraints import check_constraints, raise_for_violations, write_violations
from npu_compiler.elementwise_groups import elementwise_groups, lower_group
from npu_compiler.errors import CompileOptionError, CompilerError, IRError
from npu_compiler.graph import IRGraph, Node
from npu_compiler.graph_checker import checking
from npu_compiler.ir_reader import ir_data, load_ir_from_dict
from npu_compiler.lowering import Lowering
from npu_compiler.memory import check_plan, plan_memory
from npu_compiler.ops import find_op
from npu_compiler.ops.arguments import Refusal
from npu_compiler.passes import CANONICALIZE, OPTIMIZE, run_passes
from npu_compiler.precision import choose_precision
from npu_compiler.saturation import saturate
from npu_compiler.target import TargetConfig


def compile(
    ir: object,
    *,
    target: TargetConfig | None = None,
    compute_dtype: str | None = None,
    model_dtype: str | None = None,
    weight_dtype: str | None = None,
    donate_inputs: Collection[str] = (),
    keep: Collection[str] = (),
    weights_in_place: bool | None = None,
    optimize: bool = True,
    check: bool | None = None,
) -> CompiledProgram:
    """Compile an IR (a path to its JSON, its dict, or an object with ``to_dict``) to a program.

    Args:
        target: the NPU; TargetConfig() by default.
        compute_dtype: "float16", "bfloat16" or "float32"; by default float16 for float32 models,
            else the weights'.
        model_dtype: the IR dtype that is stored as ``compute_dtype``; by default that of most
            weights (a part of a model takes its model's).
        weight_dtype: "int8" stores the weights of linear layers as symmetric 8-bit integers with a
            float32 scale per output channel, quantised on loading (implies weights_in_place);
            npu_runtime.quantization_errors says what that costs.
        donate_inputs: names of inputs whose memory an output takes over: a KV cache that the model
            updates in place is then never copied. A run changes the buffers that it is given for
            them.
        keep: names of tensors of the IR that the program returns as well, copied as soon as they
            are computed; nothing else is compiled differently. Those that fusion leaves no memory
            for are absent. ``metadata["kept"]`` maps the additional outputs to them (JSON).
        weights_in_place: whether linear layers use their weights where they are rather than packed
            for the processor: a language model then takes no more memory than its weights, and a
            norm or gate becomes part of the product. By default where all linear layers have few
            rows (one decode step), which packing would not speed up.
        optimize: fold and fuse; without it every node is a dispatch of its own, to compare with.
        check: verify the graph after every pass and the memory plan (default:
            NPU_COMPILER_CHECK=1).

    Raises:
        IRError: the IR is malformed (IRFileNotFoundError: there is no such file).
        UnsupportedOpError, ConstraintError: the NPU cannot run some nodes; lists each with the
        reason.
        CompileOptionError: an argument has no meaning.
    """
    return compile_graph(
        _read(ir),
        target=target,
        compute_dtype=compute_dtype,
        model_dtype=model_dtype,
        weight_dtype=weight_dtype,
        donate_inputs=donate_inputs,
        keep=keep,
        weights_in_place=weights_in_place,
        optimize=optimize,
        check=check,
    )


def _read(ir: object) -> IRGraph:
    """The graph of an IR; what only PyTorch can run is refused like every node that the NPU cannot
    run, all of them listed.
    """
    if isinstance(ir, IRGraph):
        return ir
    data, folder = ir_data(ir)
    try:
        return load_ir_from_dict(data, folder)
    except IRError:
        raise_for_violations(check_constraints(load_ir_from_dict(data, folder, foreign=True)))
        raise


def compile_graph(
    graph: IRGraph,
    *,
    target: TargetConfig | None = None,
    compute_dtype: str | None = None,
    model_dtype: str | None = None,
    weight_dtype: str | None = None,
    donate_inputs: Collection[str] = (),
    keep: Collection[str] = (),
    weights_in_place: bool | None = None,
    optimize: bool = True,
    check: bool | None = None,
) -> CompiledProgram:
    """Compile an IRGraph, which is changed in place. See ``compile``."""
    target = target or TargetConfig()
    check = checking() if check is None else check
    _check_donated(graph, donate_inputs)
    graph.weights_in_place = True if weight_dtype is not None else weights_in_place
    precision = choose_precision(graph, target, compute_dtype, model_dtype, weight_dtype)
    raise_for_violations(write_violations(graph))
    run_passes(graph, CANONICALIZE, check)
    raise_for_violations(check_constraints(graph))
    saturate(graph, precision)
    if optimize:
        run_passes(graph, OPTIMIZE, check)
    lowering = lower_graph(graph, Lowering(graph, target, precision, donate_inputs), keep, optimize)
    plan = plan_memory(lowering.dispatches, target.buffer_alignment)
    if check:
        check_plan(plan)
    return generate(graph, lowering, plan, {})


def _check_donated(graph: IRGraph, names: Collection[str]) -> None:
    known = [value.name for value in graph.inputs]
    if isinstance(names, str) or not set(names) <= set(known):
        raise CompileOptionError(
            f"donate_inputs must name graph inputs, got {names!r}; the inputs are {known}"
        )


def lower_graph(
    graph: IRGraph, lowering: Lowering, keep: Collection[str] = (), fuse: bool = True
) -> Lowering:
    """Emit the dispatches of every node, in order; ``keep`` names values to return as well.
    Elementwise nodes share dispatches where ``fuse`` allows it.
    """
    kept = frozenset(keep)
    groups = elementwise_groups(graph, fuse)
    steps = {node: step for step, node in enumerate(graph.nodes)}
    grouped = {node: steps[last] for last, group in groups.items() for node in group}
    steps |= grouped
    lowering.schedule(steps)
    for node in graph.nodes:
        try:
            if node in groups:
                lower_group(lowering, groups[node])
            elif node not in grouped:
                _lower_node(lowering, node)
            for value in node.outputs:
                if value.name in kept:
                    lowering.keep(value)
        except Refusal as refusal:
            raise IRError(f"node {node.name!r} ({node.op_type}): {refusal}") from refusal
    lowering.finish_outputs()
    lowering.check_donations()
    return lowering


def _lower_node(lowering: Lowering, node: Node) -> None:
    record = find_op(node.op_type)
    if record is not None and record.lower is not None:
        record.lower(lowering, node)
        return
    if record is None or record.view is None:
        raise CompilerError(f"node {node.name!r}: {node.op_type} has no lowering")
    x = lowering.read(next(node.inputs()))
    views = record.view(node, x)
    if views is None:
        views = record.view(node, lowering.contiguous(x, node))
    if views is None or len(views) != len(node.outputs):
        raise IRError(
            f"node {node.name!r} ({node.op_type}): the IR declares {len(node.outputs)} outputs "
            f"for {list(x.shape)}"
        )
    for output, view in zip(node.outputs, views, strict=True):
        lowering.alias(output, view)


compile_ir = compile
