"""Writes the outcome of the comprehensive test: SUMMARY.md and one Markdown file per model."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from tests.reports.check import CheckResult
from torch_ir import IR, IRNode, TensorMeta, generate_op_distribution_pie, ir_to_mermaid

__all__ = ["count_edges", "model_report", "summary_report", "write_reports"]


def write_reports(results: Sequence[CheckResult], folder: Path) -> list[Path]:
    """Write SUMMARY.md and ``<model>.md`` for each result into a folder, made if need be.

    Returns:
        The files, the summary first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"SUMMARY": summary_report(results)}
    texts.update((result.spec.name, model_report(result)) for result in results)
    files = []
    for name, text in texts.items():
        files.append(folder / f"{name}.md")
        files[-1].write_text(text, encoding="utf-8")
    return files


def count_edges(ir: IR) -> int:
    """Count the tensors' ways between graph inputs, nodes and graph outputs; weights do not
    count."""
    weights = set(ir.weight_name_mapping)
    used = [tensor.name for node in ir.nodes for tensor in node.inputs]
    used += [tensor.name for tensor in ir.graph_outputs]
    return sum(name not in weights for name in used)


def summary_report(results: Sequence[CheckResult]) -> str:
    """Return the overview of all models as Markdown."""
    passed = sum(result.passed for result in results)
    lines = [
        "# Comprehensive Test Summary",
        "",
        *_table(
            ("Metric", "Value"),
            [
                ("Models", len(results)),
                ("Passed", passed),
                ("Failed", len(results) - passed),
                ("PyTorch", torch.__version__),
            ],
        ),
        "",
        "## Results",
        "",
    ]
    columns = ("Model", "Category", "Status", "Nodes", "Edges", "Weights", "Params")
    rows = []
    for result in results:
        name, ir = result.spec.name, result.ir
        sizes: tuple[object, ...] = ("-",) * 4
        if ir is not None:
            total = f"{ir.total_parameters:,}"
            sizes = (len(ir.nodes), count_edges(ir), len(ir.weights), total)
        rows.append(
            (
                f"[{name}]({name}.md)",
                ", ".join(result.spec.categories),
                _status(result),
                *sizes,
                _figure(result.max_diff),
                _figure(result.mean_diff),
            )
        )
    lines += _table((*columns, "max_diff", "mean_diff"), rows)
    failures = [result for result in results if not result.passed]
    if failures:
        lines += ["", "## Failures", ""]
        lines += [f"- **{r.spec.name}**: {_one_line(r.problem)}" for r in failures]
    return "\n".join(lines) + "\n"


def model_report(result: CheckResult) -> str:
    """Return the report of one model as Markdown."""
    spec, ir = result.spec, result.ir
    lines = [
        f"# {spec.name}",
        "",
        spec.description,
        "",
        f"**Category**: {', '.join(spec.categories)}  ",
        f"**Status**: {_status(result)}",
    ]
    if result.problem is not None:
        lines += ["", f"**Problem**: {_one_line(result.problem)}"]
    if ir is not None:
        lines += ["", "## Summary", "", *_summary(ir)]
    lines += ["", "## Numerical Verification", "", *_verification(result)]
    if ir is not None:
        lines += ["", "## DAG Visualization", ""]
        lines += _mermaid(ir_to_mermaid(ir, max_nodes=len(ir.nodes)))
        lines += ["", "## Operator Distribution", ""]
        lines += _mermaid(generate_op_distribution_pie(ir))
        lines += ["", "## Node Details", "", *_nodes(ir)]
        lines += ["", "## Weight Metadata", "", *_weights(ir)]
    return "\n".join(lines) + "\n"


def _summary(ir: IR) -> list[str]:
    rows = [
        ("Nodes", len(ir.nodes)),
        ("Edges", count_edges(ir)),
        ("Inputs", len(ir.graph_inputs)),
        ("Outputs", len(ir.graph_outputs)),
        ("Weights", len(ir.weights)),
        ("Total params", f"{ir.total_parameters:,}"),
    ]
    shapes = [
        (f"{kind} `{tensor.name}`", _tensor(tensor))
        for kind, tensors in (("Input", ir.graph_inputs), ("Output", ir.graph_outputs))
        for tensor in tensors
    ]
    return _table(("Metric", "Value"), [*rows, *shapes])


def _verification(result: CheckResult) -> list[str]:
    if not result.verifications:
        return ["Not verified."]
    overall = _table(
        ("Metric", "Value"),
        [
            ("max_diff", _figure(result.max_diff)),
            ("mean_diff", _figure(result.mean_diff)),
            ("rtol", f"{result.rtol:g}"),
            ("atol", f"{result.atol:g}"),
        ],
    )
    rows = [
        (
            found.batch,
            found.seed,
            found.report.num_outputs,
            _figure(found.report.max_diff),
            _figure(found.report.mean_diff),
            "PASSED" if found.report.is_valid else "FAILED",
        )
        for found in result.verifications
    ]
    columns = ("Batch", "Seed", "Outputs", "max_diff", "mean_diff", "Status")
    return [*overall, "", *_table(columns, rows)]


def _nodes(ir: IR) -> list[str]:
    rows = [
        (
            index,
            f"`{node.name}`",
            f"`{node.op_type}`",
            "<br>".join(f"`{t.name}` {_tensor(t)}" for t in node.inputs),
            "<br>".join(f"`{t.name}` {_tensor(t)}" for t in node.outputs),
            _attributes(node),
        )
        for index, node in enumerate(ir.nodes)
    ]
    columns = ("#", "Node", "Op", "Inputs", "Outputs", "Attrs")
    return [
        "<details>",
        f"<summary>{len(rows)} nodes</summary>",
        "",
        *_table(columns, rows),
        "",
        "</details>",
    ]


def _weights(ir: IR) -> list[str]:
    rows = [
        (
            f"`{weight.name}`",
            list(weight.shape),
            weight.dtype,
            f"{math.prod(weight.shape):,}",
            f"`{ir.tied_weights[weight.name]}`" if weight.name in ir.tied_weights else "",
        )
        for weight in ir.weights
    ]
    return _table(("Name", "Shape", "Dtype", "Params", "Same tensor as"), rows)


def _attributes(node: IRNode) -> str:
    return ", ".join(f"{key}={json.dumps(value, default=str)}" for key, value in node.attrs.items())


def _tensor(tensor: TensorMeta) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"


def _status(result: CheckResult) -> str:
    return "PASSED" if result.passed else "FAILED"


def _figure(value: float) -> str:
    return f"{value:.2e}"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _mermaid(text: str) -> list[str]:
    return ["```mermaid", text, "```"]


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a Markdown table; a bar in a cell does not end it."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    ]
