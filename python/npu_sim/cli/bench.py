"""``npu-sim bench``: latency beside other runtimes, interleaved in one process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from npu_sim.cli.common import (
    DeviceOption,
    JsonOption,
    counting,
    notice,
    print_json,
    progress,
    split_list,
    stdout,
)
from npu_sim.errors import UsageError

THREADS_VARIABLE = "NPU_SIM_NUM_THREADS"


def bench_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="resnet18, -34, -50, -101, -152, qwen2.5-0.5b, -1.5b, a program (.npubin), "
            "or a language model's directory.",
            show_default=False,
        ),
    ],
    against: Annotated[
        str,
        typer.Option(
            metavar="PEERS",
            help="torch, torch-compile, openvino; for images onnxruntime, for language llama.cpp.",
        ),
    ] = "",
    dtype: Annotated[
        str,
        typer.Option("--dtype", metavar="DTYPE", help="Our compute dtypes, separated by commas."),
    ] = "float16",
    batch: Annotated[int, typer.Option(min=1, help="Images per run.")] = 1,
    image_size: Annotated[int, typer.Option(min=32, help="Height and width of the images.")] = 224,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of every contender. Default: processors."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each contender.")] = 12,
    turn_ms: Annotated[int, typer.Option(min=1, help="Length of a turn.")] = 150,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Language models by name: random weights.")
    ] = False,
    prompt_tokens: Annotated[
        int, typer.Option(min=1, help="Language models: tokens before those that are timed.")
    ] = 128,
    max_cache_len: Annotated[
        int | None,
        typer.Option(min=1, help="Language models: tokens that the KV cache holds."),
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Language models: time 1, 2, 4, … tokens, too.")
    ] = False,
    weight_dtype: Annotated[
        str | None, typer.Option(metavar="DTYPE", help="Language models: int8 weights.")
    ] = None,
    chart: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --sweep: draw its times, .svg or .png."),
    ] = None,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Time a model here and on its peers, in turns, and compare.

    All contenders get the same model, images and number of threads, and take turns in one
    process. `ratio` is to our first row: above 1 is slower than us. Peers that are not installed
    are listed with the way to install them. Language models are timed per token and per prompt,
    beside the bandwidth of memory in the same minute.

    \b
    Examples:
      npu-sim bench resnet50 --against torch,onnxruntime,openvino
      npu-sim bench resnet18 --dtype float16,bfloat16 --against openvino --batch 4 --json
      npu-sim bench model.npubin --device cpu
      npu-sim bench qwen2.5-1.5b --random-weights --against torch,torch-compile,openvino,llama.cpp
      npu-sim bench qwen2.5-1.5b --random-weights --sweep --chart positions.svg --json
    """
    from npu_sim.bench import report
    from npu_sim.bench.contenders import Absent, default_threads
    from npu_sim.bench.measure import interleave
    from npu_sim.cli.bench_language import bench_language, is_language_model

    used_threads = threads or default_threads()
    # Read by the cpu device when it is opened.
    os.environ[THREADS_VARIABLE] = str(used_threads)
    names, dtypes = split_list(against), split_list(dtype)
    if is_language_model(model):
        bench_language(
            model,
            random_weights=random_weights,
            against=names,
            prompt_tokens=prompt_tokens,
            max_cache_len=max_cache_len,
            sweep=sweep,
            weight_dtype=weight_dtype,
            device=device,
            threads=used_threads,
            rounds=rounds,
            turn_ms=turn_ms,
            chart=chart,
            json=json,
        )
        return
    absent: list[Absent] = []
    expected = None
    if model.endswith(".npubin"):
        contenders = _program(model, names, device)
        batch = 1
    else:
        contenders, absent, expected = _models(
            model, names, dtypes, (batch, 3, image_size, image_size), used_threads, device
        )
    with progress() as display:
        task = display.add_task("measuring", total=rounds * len(contenders))
        measured = interleave(
            {c.label: c.run for c in contenders},
            rounds=rounds,
            turn_seconds=turn_ms / 1e3,
            on_turn=lambda: display.advance(task),
        )
    found = report.rows(contenders, measured, batch, expected)
    if json:
        print_json(
            {
                "model": model,
                "batch": batch,
                "threads": used_threads,
                "contenders": found,
                "absent": [{"name": a.name, "reason": a.reason} for a in absent],
            }
        )
        return
    stdout().print(report.table(found, absent))
    typer.echo(f"{model}, batch {batch}, {used_threads} threads, {rounds} turns of {turn_ms} ms")


def _models(
    name: str,
    peer_names: Sequence[str],
    dtypes: Sequence[str],
    shape: tuple[int, ...],
    threads: int,
    device: str | None,
) -> tuple[list[Any], list[Any], Any]:
    """Our contenders (one per dtype) and the peers', absent peers, and PyTorch's logits."""
    from npu_compiler.dtypes import COMPUTE
    from npu_sim.bench.contenders import Workload, choose_peers, prepare_peers
    from npu_sim.pipeline import MODELS

    chosen = choose_peers(peer_names)
    for dtype in dtypes:
        if dtype not in COMPUTE:
            raise UsageError(f"--dtype {dtype}: choose from {', '.join(COMPUTE)}")
    if name not in MODELS:
        raise UsageError(f"no model {name!r}: choose from {', '.join(MODELS)}, or a .npubin file")
    from npu_runtime import Device
    from npu_sim.bench import own
    from npu_sim.models import random_images
    from npu_sim.pipeline import build_model

    with progress() as display:
        task = display.add_task(f"building {name}", total=1 + len(dtypes) + len(chosen))
        torch_model = build_model(name, seed=1, image_size=shape[-1])
        images = random_images(shape[0], shape[-1], seed=2).numpy()
        work = Workload(name, torch_model, images, threads)
        target = Device(device)
        ours = []
        for dtype in dtypes:
            display.update(task, advance=1, description=f"compiling for {dtype}")
            ours.append(own.contender(work, dtype, target))
        ready, absent = prepare_peers(
            chosen,
            work,
            lambda peer: display.update(task, advance=1, description=f"preparing {peer}"),
        )
    return [*ours, *ready], absent, work.expected()


def _program(path: str, peer_names: Sequence[str], device: str | None) -> list[Any]:
    """A compiled program alone, with random weights and inputs."""
    from npu_sim.bench import own
    from npu_sim.pipeline import Ready
    from npu_sim.session import Session, random_inputs

    if peer_names:
        raise UsageError(
            f"--against {','.join(peer_names)}: peers cannot run a compiled program; "
            "give a model's name"
        )
    with counting("loading weights") as on_weight:
        session = Session.open(Path(path), None, device, random=True, on_weight=on_weight)
    notice("random weights and inputs are used")
    ready = Ready(session.program, session.executor, session.weights)
    precision = session.program.compute_dtype
    return [own.ready_contender(ready, dict(random_inputs(session.program)), precision)]
