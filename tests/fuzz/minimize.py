"""Makes a failing graph small: outputs and nodes go as long as it fails in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from tests.fuzz.builder import Case, meta_of
from tests.fuzz.reference import evaluate
from torch_ir.ir import TensorMeta


def minimize(case: Case, fails: Callable[[Case], bool]) -> Case:
    """A smaller case for which ``fails`` still holds."""
    case = pruned(case)
    values = evaluate(case)
    smaller = True
    while smaller:
        smaller = False
        for candidate in _candidates(case, values):
            if fails(candidate):
                case, smaller = candidate, True
                break
    return case


def _candidates(case: Case, values: dict[str, torch.Tensor]) -> Iterator[Case]:
    """Smaller cases, the smallest first."""
    outputs = case.ir.graph_outputs
    if len(outputs) > 1:
        yield from (pruned(_with_outputs(case, [output])) for output in outputs)
        for index in range(len(outputs)):
            yield pruned(_with_outputs(case, outputs[:index] + outputs[index + 1 :]))
    for node in reversed(case.ir.nodes):
        for candidate in (_ending_before(case, node.name), _cut(case, node.name, values)):
            if candidate is not None:
                yield candidate


def pruned(case: Case) -> Case:
    """The case without what its outputs do not need."""
    needed = {meta.name for meta in case.ir.graph_outputs}
    nodes = []
    for node in reversed(case.ir.nodes):
        if any(meta.name in needed for meta in node.outputs):
            nodes.append(node)
            needed |= {meta.name for meta in node.inputs}
    nodes.reverse()
    ir = replace(
        case.ir,
        nodes=nodes,
        graph_inputs=[m for m in case.ir.graph_inputs if m.name in needed],
        weights=[m for m in case.ir.weights if m.name in needed],
        weight_name_mapping={k: v for k, v in case.ir.weight_name_mapping.items() if k in needed},
    )
    return Case(
        ir,
        {k: v for k, v in case.inputs.items() if k in needed},
        {k: v for k, v in case.weights.items() if k in needed},
        case.exact,
    )


def _with_outputs(case: Case, outputs: list[TensorMeta]) -> Case:
    return Case(replace(case.ir, graph_outputs=outputs), case.inputs, case.weights, case.exact)


def _ending_before(case: Case, name: str) -> Case | None:
    """The graph that returns what node ``name`` reads, instead of what comes of it."""
    (node,) = (n for n in case.ir.nodes if n.name == name)
    produced = {m.name for n in case.ir.nodes for m in n.outputs}
    reads = [TensorMeta(m.name, m.shape, m.dtype) for m in node.inputs if m.name in produced]
    wanted = {m.name for m in node.outputs}
    if not reads or not any(m.name in wanted for m in case.ir.graph_outputs):
        return None
    kept = [m for m in case.ir.graph_outputs if m.name not in wanted]
    return pruned(_with_outputs(case, kept + reads))


def _cut(case: Case, name: str, values: dict[str, torch.Tensor]) -> Case | None:
    """The graph with node ``name`` replaced by graph inputs that hold its results."""
    (node,) = (n for n in case.ir.nodes if n.name == name)
    results = {m.name: values[m.name].contiguous() for m in node.outputs}
    if any(m.name in results for m in case.ir.graph_outputs):
        return None
    nodes = [
        replace(
            n,
            inputs=[
                meta_of(m.name, results[m.name], m.name) if m.name in results else m
                for m in n.inputs
            ],
        )
        for n in case.ir.nodes
        if n.name != name
    ]
    inputs = [*case.ir.graph_inputs, *(meta_of(k, v) for k, v in results.items())]
    ir = replace(case.ir, nodes=nodes, graph_inputs=inputs)
    return pruned(Case(ir, {**case.inputs, **results}, case.weights, case.exact))
