"""``npu-sim run``: one run of a program on arrays from files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from npu_sim.cli.common import (
    DeviceOption,
    InputOption,
    JsonOption,
    ProgramArgument,
    WeightsOption,
    counting,
    print_json,
    stdout,
)


def run_command(
    program: ProgramArgument,
    weights: WeightsOption = None,
    inputs: InputOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where the outputs go (.npz, by output name).",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Run a program once: arrays in (.npy), arrays out (.npz).

    \b
    Examples:
      npu-sim run resnet18.npubin -w resnet18.safetensors -i input=image.npy -o logits.npz
      npu-sim run two_inputs.npubin -w w.safetensors -i a=a.npy -i b=b.npy --device reference --json
    """
    import time

    import numpy as np

    from npu_sim.session import Session, read_inputs

    arrays = read_inputs(inputs or [])
    with counting("loading weights") as on_weight:
        session = Session.open(program, weights, device, on_weight=on_weight)
    begin = time.perf_counter()
    results = session.executor.run(arrays, session.weights)
    seconds = time.perf_counter() - begin
    specs = {spec.name: spec for spec in session.program.output_specs}
    found = {name: buffer.to_numpy(spec=specs[name]) for name, buffer in results.items()}
    if output is not None:
        # .npz knows no bfloat16: float32 holds every value of it.
        plain: dict[str, Any] = {
            n: a if a.dtype.kind in "fiub" else a.astype(np.float32) for n, a in found.items()
        }
        with output.open("wb") as file:
            np.savez(file, **plain)
    rows = [
        {
            "name": name,
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "min": float(array.min()) if array.size else None,
            "max": float(array.max()) if array.size else None,
            "mean": float(array.mean(dtype=np.float64)) if array.size else None,
        }
        for name, array in found.items()
    ]
    if json:
        print_json(
            {
                "device": session.device.kind,
                "run_ms": seconds * 1e3,
                "outputs": rows,
                "path": None if output is None else str(output),
            }
        )
        return
    from rich.table import Table

    table = Table("output", "shape", "dtype", "min", "max", "mean", box=None, pad_edge=False)
    for row in rows:
        numbers = ("-" if row[k] is None else f"{row[k]:.4g}" for k in ("min", "max", "mean"))
        table.add_row(str(row["name"]), str(row["shape"]), str(row["dtype"]), *numbers)
    stdout().print(table)
    typer.echo(f"{session.device.kind}: {seconds * 1e3:.2f} ms")
