"""``npu-sim compile``: IR JSON to a program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from npu_sim.cli.common import JsonOption, bytes_text, facts, print_json


def compile_command(
    ir: Annotated[
        Path, typer.Argument(metavar="IR", help="IR of a model (.json).", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Program to write (.npubin).", show_default=False
        ),
    ],
    compute_dtype: Annotated[
        str | None,
        typer.Option(
            metavar="DTYPE",
            help="float16, bfloat16 or float32. Default: float16 for float32 models, else theirs.",
            show_default=False,
        ),
    ] = None,
    weight_dtype: Annotated[
        str | None,
        typer.Option(
            metavar="DTYPE",
            help="int8: weights of linear layers as 8-bit integers with a scale per channel.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compile the IR of a model into a program that every device runs.

    \b
    Examples:
      npu-sim compile resnet18_ir.json -o resnet18.npubin
      npu-sim compile resnet18_ir.json -o resnet18.npubin --compute-dtype bfloat16 --json
      npu-sim compile decoder_ir.json -o decoder.npubin --weight-dtype int8
    """
    import time

    import npu_compiler
    from npu_sim.summary import summarize

    begin = time.perf_counter()
    program = npu_compiler.compile(str(ir), compute_dtype=compute_dtype, weight_dtype=weight_dtype)
    seconds = time.perf_counter() - begin
    program.save(str(output))
    summary = summarize(program)
    if json:
        print_json({"path": str(output), "compile_seconds": seconds, **summary})
        return
    facts(
        [
            ("program", f"{output} ({bytes_text(output.stat().st_size)})"),
            ("compiled in", f"{seconds * 1e3:.0f} ms"),
            ("compute dtype", summary["compute_dtype"]),
            ("dispatches", str(summary["num_dispatches"])),
            ("arena", bytes_text(summary["arena_bytes"])),
        ]
    )
