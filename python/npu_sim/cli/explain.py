"""``npu-sim explain``: what runs where, and why not on the NPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from npu_sim.cli.common import JsonOption, ModeOption, print_json, progress, stdout


def explain_command(
    ir: Annotated[
        Path, typer.Argument(metavar="IR", help="IR of a model (.json).", show_default=False)
    ],
    full: Annotated[bool, typer.Option("--full", help="A table of every node.")] = False,
    fail_on_fallback: Annotated[
        bool,
        typer.Option("--fail-on-fallback", help="Exit with status 1 if a node cannot run on it."),
    ] = False,
    mode: ModeOption = "cost",
    json: JsonOption = False,
) -> None:
    """Say of every node of a model where it runs, and if it cannot run on the NPU, why not.

    Prints one line, and where nodes run on the CPU, the causes with what to change. --full shows
    every node with the bytes of its tensors that cross between the sides.

    \b
    Examples:
      npu-sim explain model_ir.json
      npu-sim explain model_ir.json --full
      npu-sim explain model_ir.json --fail-on-fallback --json > explanation.json
    """
    with progress() as display:
        task = display.add_task("reading", total=2)
        import npu_compiler
        from npu_sim import explain_report

        display.update(task, advance=1, description="placing nodes")
        found = npu_compiler.explain(ir, mode=explain_report.checked_mode(mode))
    if json:
        print_json(found.to_dict())
    else:
        typer.echo(found.summary)
        table = explain_report.node_table(found) if full else explain_report.cause_table(found)
        if table is not None:
            typer.echo("")
            stdout().print(table)
    forced = [node for node in found.fallbacks if not node.by_choice]
    if fail_on_fallback and forced:
        names = ", ".join(repr(node.name) for node in forced[:5])
        more = f" and {len(forced) - 5} more" if len(forced) > 5 else ""
        typer.echo(f"npu-sim: error: {len(forced)} nodes run on the CPU: {names}{more}", err=True)
        raise typer.Exit(1)
