"""``npu-sim verify``: a model on a device beside PyTorch, node by node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from npu_sim.cli.common import (
    DeviceOption,
    InputOption,
    JsonOption,
    WeightsOption,
    counting,
    notice,
    print_json,
    stdout,
)


def verify_command(
    ir: Annotated[
        Path, typer.Argument(metavar="IR", help="IR of a model (.json).", show_default=False)
    ],
    weights: WeightsOption = None,
    inputs: InputOption = None,
    device: DeviceOption = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype", metavar="DTYPE", help="Compute dtype. Default: as of `npu-sim compile`."
        ),
    ] = None,
    min_sqnr: Annotated[
        float | None,
        typer.Option("--min-sqnr", metavar="DB", help="Noise that a node may add, in dB."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="A table of every tensor.")] = False,
    json: JsonOption = False,
) -> None:
    """Run a model beside PyTorch, node by node, and find the first node that goes wrong.

    Every tensor that the device has in memory is compared with PyTorch's: with PyTorch's own run,
    and with what PyTorch makes of the operands that the device had. Exit status 1 where a node
    diverges, overflows float16 or is not finite where PyTorch is. Without --input, inputs are
    drawn.

    \b
    Examples:
      npu-sim verify model_ir.json -w model.safetensors
      npu-sim verify model_ir.json -w model.safetensors -i input=image.npy --device reference --full
      npu-sim verify model_ir.json -w model.safetensors --dtype bfloat16 --json > verification.json
    """
    from npu_sim.session import read_inputs
    from npu_sim.verification import verify
    from npu_sim.verification.files import drawn_inputs, read_weights
    from npu_sim.verification.tables import table_of

    arrays = read_inputs(inputs or [])
    state = read_weights(ir, weights)
    if not arrays:
        arrays = drawn_inputs(ir)
        if arrays:
            notice(f"inputs are drawn at random: {', '.join(arrays)}")
    with counting("nodes") as on_node:
        report = verify(
            ir,
            state,
            arrays,
            device=device,
            compute_dtype=dtype,
            min_sqnr_db=min_sqnr,
            progress=on_node,
        )
    if json:
        print_json(report.to_dict())
    else:
        typer.echo(report.summary)
        table = table_of(report, full=full)
        if table is not None:
            typer.echo("")
            stdout().print(table)
    if not report.ok:
        raise typer.Exit(1)
