"""The part of ``npu-sim bench`` that times language models."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from npu_sim.cli.common import facts, print_json, progress, stdout
from npu_sim.errors import UsageError

# Positions at which ``--sweep`` times a token: powers of two, and the last that a model of 32,768
# has room for beside a reply.
LONGEST = 32_640
# The longest prompt that ``--sweep`` times: every contender takes seconds for each.
LONGEST_PROMPT = 1024


def is_language_model(model: str) -> bool:
    """Whether a benchmark's MODEL is one: a known name, or a model directory."""
    from npu_sim.bench.language.models import LANGUAGE_MODELS

    return model in LANGUAGE_MODELS or (Path(model) / "config.json").exists()


def bench_language(
    model: str,
    *,
    random_weights: bool,
    against: Sequence[str],
    prompt_tokens: int,
    max_cache_len: int | None,
    sweep: bool,
    weight_dtype: str | None,
    device: str | None,
    threads: int,
    rounds: int,
    turn_ms: int,
    chart: Path | None,
    json: bool,
) -> None:
    """Measure and print; see ``bench_command``."""
    from npu_sim.bench.language import report
    from npu_sim.bench.language.peers import check_names
    from npu_sim.bench.language.run import bench
    from npu_sim.bench.language.settings import Settings

    if chart is not None and not sweep:
        raise UsageError("--chart draws the times over positions: give --sweep, too")
    check_names(against)
    length = max_cache_len or (LONGEST + 128 if sweep else prompt_tokens + 256)
    powers = [2**i for i in range(LONGEST.bit_length())] if sweep else []
    positions = [*powers, LONGEST] if sweep else []
    with _folder(model, random_weights) as folder, progress() as display:
        task = display.add_task("starting", total=None)
        found = bench(
            Settings(
                folder=folder,
                prompt=prompt_tokens,
                max_cache_len=length,
                positions=tuple(p for p in positions if p < length),
                prompts=tuple(p for p in powers if p < length and p <= LONGEST_PROMPT),
                weight_dtype=weight_dtype,
                device=device,
                threads=threads,
                rounds=rounds,
                turn_seconds=turn_ms / 1e3,
                against=tuple(against),
            ),
            lambda what: display.update(task, description=what),
        )
    if chart is not None:
        report.chart(found, chart)
    if json:
        print_json({"model": model, **found})
        return
    stdout().print(report.table(found))
    if found["positions"]:
        stdout().print(report.positions_table(found))
        stdout().print(report.prompts_table(found))
    for peer in found["absent"]:
        typer.echo(f"{peer['name']}: {peer['reason']}")
    facts(report.facts(found))
    typer.echo(f"{model}, {threads} threads, {rounds} turns")


@contextmanager
def _folder(model: str, random_weights: bool) -> Iterator[Path]:
    """The model's directory, written for the benchmark where the model is a name."""
    from npu_sim.bench.language.models import LANGUAGE_MODELS, write_random_model

    if model not in LANGUAGE_MODELS:
        yield Path(model)
        return
    if not random_weights:
        raise UsageError(
            f"nothing is downloaded: give {model}'s directory instead of its name, or "
            "--random-weights (the time does not depend on them)"
        )
    with tempfile.TemporaryDirectory(prefix="npu-sim-") as name, progress() as display:
        display.add_task(f"writing {model} with random weights", total=None)
        folder = Path(name) / model
        write_random_model(model, folder)
        yield folder
