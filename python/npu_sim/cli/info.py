"""``npu-sim info``: what is in a program."""

from __future__ import annotations

from typing import Any

import typer

from npu_sim.cli.common import (
    JsonOption,
    ProgramArgument,
    bytes_text,
    facts,
    print_json,
    stdout,
)


def info_command(program: ProgramArgument, json: JsonOption = False) -> None:
    """Show a program's entry points, inputs, outputs, kernels, memory and weights.

    \b
    Examples:
      npu-sim info resnet18.npubin
      npu-sim info resnet18.npubin --json | python -m json.tool
    """
    from npu_compiler.compiled_program import CompiledProgram
    from npu_sim.summary import summarize

    summary = summarize(CompiledProgram.load(str(program)))
    if json:
        print_json({"path": str(program), **summary})
        return
    entries = summary["entry_points"]
    of_all = f" of all {len(entries)} entry points" if len(entries) > 1 else ""
    facts(
        [
            ("model", summary["model_name"]),
            ("compute dtype", summary["compute_dtype"]),
            ("dispatches", str(summary["num_dispatches"])),
            ("operations", f"{summary['flops'] / 1e9:.2f} GFLOP per run{of_all}"),
            ("arena", _arena(summary)),
            ("weights", f"{summary['num_weights']} ({bytes_text(summary['weight_bytes'])})"),
            ("made from", f"{summary['num_source_tensors']} tensors of the model"),
        ]
    )
    for entry in entries:
        if of_all:
            typer.echo("")
            arena = bytes_text(entry["arena_bytes"])
            typer.echo(f"{entry['name']}: {entry['num_dispatches']} dispatches, arena {arena}")
        _tensors(entry)
    _kernels(summary["kernels"])
    # What linking keeps of each program is for --json.
    shown = [(key, str(value)) for key, value in summary["metadata"].items() if key != "entries"]
    if shown:
        typer.echo("")
        facts(shown)


def _arena(summary: dict[str, Any]) -> str:
    text = bytes_text(summary["arena_bytes"])
    bound = summary["arena_lower_bound_bytes"]
    if bound:
        text += f" ({summary['arena_bytes'] / bound - 1:+.1%} of the lower bound)"
    return text


def _tensors(entry: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("", "name", "shape", "dtype", "on the device", box=None, pad_edge=False)
    for kind in ("input", "output"):
        for spec in entry[f"{kind}s"]:
            stored = f"{spec['storage_dtype']} {spec['alloc_shape']}, {spec['layout']}"
            table.add_row(kind, spec["name"], str(spec["shape"]), spec["dtype"], stored)
    typer.echo("")
    stdout().print(table)


def _kernels(kernels: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("kernel", box=None, pad_edge=False)
    for heading in ("dispatches", "GFLOP", "MB moved"):
        table.add_column(heading, justify="right")
    for kernel in kernels:
        table.add_row(
            kernel["name"],
            str(kernel["dispatches"]),
            f"{kernel['flops'] / 1e9:.3f}",
            f"{kernel['bytes'] / 1e6:.1f}",
        )
    typer.echo("")
    stdout().print(table)
