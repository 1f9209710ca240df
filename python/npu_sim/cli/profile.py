"""``npu-sim profile``: where the time of a run goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from npu_sim.cli.common import (
    DeviceOption,
    InputOption,
    JsonOption,
    ProgramArgument,
    WeightsOption,
    counting,
    notice,
    print_json,
    progress,
    stdout,
)


def profile_command(
    program: ProgramArgument,
    weights: WeightsOption = None,
    inputs: InputOption = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a trace (.json) for ui.perfetto.dev or chrome://tracing.",
            show_default=False,
        ),
    ] = None,
    warmup: Annotated[int, typer.Option(min=0, help="Runs before the recorded ones.")] = 3,
    iterations: Annotated[int, typer.Option(min=1, help="Recorded runs.")] = 10,
    top: Annotated[int, typer.Option(min=0, help="Show the N longest dispatches.")] = 10,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Time every dispatch of a program. Without weights or inputs, random ones are drawn.

    \b
    Examples:
      npu-sim profile resnet18.npubin
      npu-sim profile resnet18.npubin -w resnet18.safetensors --trace trace.json --top 5
    """
    from npu_runtime.profiler import Profiler
    from npu_sim.session import Session, random_inputs, read_inputs

    with counting("loading weights") as on_weight:
        session = Session.open(program, weights, device, random=True, on_weight=on_weight)
    if weights is None:
        notice("no --weights: random ones are used")
    arrays = read_inputs(inputs) if inputs else random_inputs(session.program)
    profiler = Profiler(session.executor)
    with progress() as display:
        task = display.add_task("profiling", total=warmup + iterations)
        for index in range(warmup + iterations):
            if index < warmup:
                session.executor.run(arrays, session.weights)
            else:
                profiler.run(arrays, session.weights)
            display.advance(task)
    if trace is not None:
        profiler.save_trace(trace)
    if json:
        print_json({**profiler.to_dict(), "trace": None if trace is None else str(trace)})
        return
    profiler.print_summary(stdout(), dispatches=top)
    if trace is not None:
        typer.echo(f"trace: {trace} (open it at https://ui.perfetto.dev)")
