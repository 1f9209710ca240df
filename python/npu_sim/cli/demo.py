"""``npu-sim demo``: ResNets from PyTorch to logits, on every device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from npu_sim.cli.common import JsonOption, print_json, progress, split_list, stdout


def demo_command(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where files go.")
    ] = Path("demo_out"),
    models: Annotated[
        str, typer.Option("--models", metavar="NAMES", help="ResNets, separated by commas.")
    ] = "resnet18,resnet50",
    devices: Annotated[
        str,
        typer.Option(
            "--devices",
            metavar="KINDS",
            help="Devices, separated by commas; the first is timed. Default: all of them.",
            show_default=False,
        ),
    ] = "",
    dtype: Annotated[
        str,
        typer.Option("--dtype", metavar="DTYPE", help="Compute dtype: float16, bfloat16, float32."),
    ] = "float16",
    images: Annotated[int, typer.Option(min=1, help="Images per model and device.")] = 8,
    reference_images: Annotated[
        int, typer.Option(min=1, help="Images for the (slow) reference device.")
    ] = 1,
    image_size: Annotated[int, typer.Option(min=32, help="Height and width of the images.")] = 224,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of us and of torch for timing.")] = 8,
    seed: Annotated[int, typer.Option(help="Of weights and images.")] = 1,
    json: JsonOption = False,
) -> None:
    """Take ResNets from PyTorch to logits and compare both.

    Shows agreement, error, latency and memory. Weights are random with trained-like BatchNorm
    statistics. Writes the IR, the program, the weights, logits, a trace and report.json per run
    into the output folder. Exit status 1 if a device disagrees with PyTorch.

    \b
    Examples:
      npu-sim demo
      npu-sim demo --models resnet18 --dtype bfloat16 --devices cpu --json
    """
    from json import dumps

    from npu_sim.extras import require

    require("torch", "the demonstration")
    from npu_runtime import available_devices
    from npu_sim.demo import case, report

    options = case.Options(
        models=split_list(models),
        devices=split_list(devices) or available_devices(),
        images=images,
        reference_images=reference_images,
        image_size=image_size,
        dtype=dtype,
        rounds=rounds,
        seed=seed,
        output=output,
    )
    output.mkdir(parents=True, exist_ok=True)
    per_model = case.FIXED_STEPS + sum(options.images_for(d) for d in options.devices)
    with progress() as display:
        task = display.add_task("", total=per_model * len(options.models))
        results = [
            case.run_case(
                name,
                options,
                lambda text: display.update(task, advance=1, description=text),
            )
            for name in options.models
        ]
    agrees = all(r.agrees for r in results)
    data = {"agrees": agrees, "models": [r.to_dict() for r in results]}
    (output / "report.json").write_text(dumps(data, indent=2), encoding="utf-8")
    if json:
        print_json(data)
    else:
        console = stdout()
        console.print(report.model_table(results))
        typer.echo("")
        console.print(report.device_table(results))
        typer.echo("")
        typer.echo(report.footnote(results))
        typer.echo(f"files: {output}")
    if not agrees:
        typer.echo("npu-sim: error: a device disagrees with PyTorch", err=True)
        raise typer.Exit(1)
