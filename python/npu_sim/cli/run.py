"""``npu-sim run``: one run of a program on arrays from files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from npu_sim.cli.common import (
    DeviceOption,
    InputOption,
    JsonOption,
    ModeOption,
    WeightsOption,
    counting,
    notice,
    print_json,
    stdout,
)


def run_command(
    program: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="A compiled program (.npubin), or the IR of a model (.json).",
            show_default=False,
        ),
    ],
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
    mode: ModeOption = "cost",
    json: JsonOption = False,
) -> None:
    """Run a model once: arrays in (.npy), arrays out (.npz).

    Of an IR, what the NPU cannot run is run on the CPU by PyTorch (`npu-sim explain` says why);
    --mode is for IRs alone.

    \b
    Examples:
      npu-sim run model_ir.json -w model.safetensors -i input=image.npy -o logits.npz
      npu-sim run resnet18.npubin -w resnet18.safetensors -i input=image.npy -o logits.npz
      npu-sim run two_inputs.npubin -w w.safetensors -i a=a.npy -i b=b.npy --device reference --json
    """
    import numpy as np

    from npu_sim.session import read_inputs

    arrays = read_inputs(inputs or [])
    run_once = _run_ir if program.suffix == ".json" else _run_program
    kind, seconds, found = run_once(program, weights, device, mode, arrays)
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
                "device": kind,
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
    typer.echo(f"{kind}: {seconds * 1e3:.2f} ms")


def _run_program(
    program: Path, weights: Path | None, device: str | None, mode: str, arrays: dict[str, Any]
) -> tuple[str, float, dict[str, Any]]:
    """Device, seconds and outputs of one run of a compiled program."""
    import time

    from npu_sim.session import Session

    with counting("loading weights") as on_weight:
        session = Session.open(program, weights, device, on_weight=on_weight)
    begin = time.perf_counter()
    results = session.executor.run(arrays, session.weights)
    seconds = time.perf_counter() - begin
    specs = {spec.name: spec for spec in session.program.output_specs}
    found = {name: buffer.to_numpy(spec=specs[name]) for name, buffer in results.items()}
    return session.device.kind, seconds, found


def _run_ir(
    ir: Path, weights: Path | None, device: str | None, mode: str, arrays: dict[str, Any]
) -> tuple[str, float, dict[str, Any]]:
    """Device, seconds and outputs of one run of an IR, in segments."""
    import time

    from npu_sim.explain_report import checked_mode
    from npu_sim.partitioned import PartitionedSession

    with counting("preparing segments") as on_segment:
        session = PartitionedSession.open(
            ir, weights, device, checked_mode(mode), on_segment=on_segment, on_weights=on_segment
        )
    fallbacks = session.executor.plan.fallbacks
    if fallbacks:
        notice(f"{session.executor.plan}; `npu-sim explain {ir}` says why")
    begin = time.perf_counter()
    found = session.run(arrays)
    return session.device.kind, time.perf_counter() - begin, found
