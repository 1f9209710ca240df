"""The measurements of a language model: starts, prompts, tokens, positions, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from npu_compiler.cache import ENVIRONMENT_VARIABLE
from npu_sim.bench.language.peers import load_peers
from npu_sim.bench.language.settings import Settings
from npu_sim.bench.language.stepper import (
    BandwidthProbe,
    OwnStepper,
    Stepper,
    weight_bytes_per_token,
)
from npu_sim.bench.measure import Statistics, interleave
from npu_sim.errors import UsageError

_READ = "read"
# Bytes that no processor's cache holds, and those that say what the bandwidth is.
_CACHE_BYTES, _ENOUGH_BYTES = 1 << 28, 1 << 30
_TOKEN = 5


def bench(settings: Settings, on_step: Callable[[str], None]) -> dict[str, Any]:
    """Every measurement as plain data; ``on_step`` is told what comes next. Programs are compiled
    anew.
    """
    with _empty_cache():
        return _bench(settings, on_step)


@contextmanager
def _empty_cache() -> Iterator[None]:
    """Keep compiled programs in a folder of the benchmark's own, for child processes too."""
    before = os.environ.get(ENVIRONMENT_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="npu-sim-cache-") as folder:
        os.environ[ENVIRONMENT_VARIABLE] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[ENVIRONMENT_VARIABLE]
            else:
                os.environ[ENVIRONMENT_VARIABLE] = before


def _bench(settings: Settings, on_step: Callable[[str], None]) -> dict[str, Any]:
    from npu_sim.llm import LLM

    options = {
        "max_cache_len": settings.max_cache_len,
        "weight_dtype": settings.weight_dtype,
        "compute_dtype": settings.compute_dtype,
        "device": settings.device,
    }
    on_step("loading, first start")
    begin = time.perf_counter()
    llm = LLM.from_pretrained(settings.folder, progress=False, **options)  # type: ignore[arg-type]
    first_start = time.perf_counter() - begin
    built = llm.build_times
    on_step("loading, second start in a process of its own")
    start = _start(settings, options)
    own = OwnStepper(llm, _precision(llm.compute_dtype, settings.weight_dtype))
    others, absent = load_peers(settings, on_step)
    steppers: list[Stepper] = [own, *others]
    program = llm.program
    needed = weight_bytes_per_token(program)
    probe = BandwidthProbe(settings.threads, min(max(needed, _CACHE_BYTES), _ENOUGH_BYTES))

    on_step(f"prompts of {settings.prompt} tokens")
    prompts = _prompts(steppers, settings.prompt, rounds=max(2, settings.rounds // 2), untimed=2)
    on_step(f"tokens after {settings.prompt}")
    tokens, read = _tokens(steppers, probe, settings.prompt, settings.rounds, settings.turn_seconds)
    swept = []
    for position in settings.positions:
        on_step(f"tokens after {position}")
        rounds = max(2, settings.rounds // 3)
        there = [s for s in steppers if s.furthest is None or position <= s.furthest]
        times, _ = _tokens(there, probe, position, rounds, settings.turn_seconds)
        swept.append({"position": position, **{k: v.to_dict() for k, v in times.items()}})
    read_through = []
    for length in settings.prompts:
        on_step(f"prompts of {length} tokens")
        there = [s for s in steppers if s.any_prompt]
        times = _prompts(there, length, rounds=max(2, settings.rounds // 3), untimed=1)
        read_through.append({"tokens": length, **{k: v.to_dict() for k, v in times.items()}})

    mine = tokens[_label(own)]
    bandwidth = probe.bandwidth(read.median)
    return {
        "precision": own.precision,
        "threads": settings.threads,
        "prompt_tokens": settings.prompt,
        "max_cache_len": settings.max_cache_len,
        "dispatches_per_token": len(program.entry("decode").kernel_calls),
        "weight_bytes_per_token": needed,
        "ms_per_token_median": mine.median,
        "ms_per_token_iqr": mine.spread,
        "tokens_per_s": 1e3 / mine.median,
        "read_gb_s": bandwidth / 1e9,
        "bandwidth_share": needed / (mine.median / 1e3) / bandwidth,
        "ttft_ms": prompts[_label(own)].median,
        "prefill_tokens_per_s": settings.prompt / prompts[_label(own)].median * 1e3,
        "first_start_s": first_start,
        **{
            key: sum(getattr(built[name], key) for name in ("prefill", "decode") if name in built)
            for key in ("extract_s", "compile_s")
        },
        "build_times": {name: asdict(times) for name, times in built.items()},
        "second_start_s": start["import_s"] + start["load_s"],
        **{f"second_start_{k}" if k.endswith("_s") else k: v for k, v in start.items()},
        "program_bytes": len(program.to_bytes()),
        "contenders": [
            {
                "name": s.name,
                "precision": s.precision,
                "token": tokens[_label(s)].to_dict(),
                "prompt": prompts[_label(s)].to_dict(),
                "token_ratio": tokens[_label(s)].median / mine.median,
                "prompt_ratio": prompts[_label(s)].median / prompts[_label(own)].median,
            }
            for s in steppers
        ],
        "absent": [{"name": a.name, "reason": a.reason} for a in absent],
        "positions": swept,
        "prompts": read_through,
    }


def _precision(compute: str, weights: str | None) -> str:
    return compute if weights is None else f"{compute}, weights {weights}"


def _label(stepper: Stepper) -> str:
    return f"{stepper.name} {stepper.precision}"


def _prompts(
    steppers: Sequence[Stepper], length: int, *, rounds: int, untimed: int
) -> dict[str, Statistics]:
    """Times from a prompt to its next token, in turns."""
    ids = [1 + i % 1000 for i in range(length)]
    return interleave(
        {_label(s): partial(s.prompt, ids) for s in steppers},
        rounds=rounds,
        turn_seconds=0.0,
        warmup_seconds=0.0,
        untimed=untimed,
    )


def _tokens(
    steppers: Sequence[Stepper],
    probe: BandwidthProbe,
    position: int,
    rounds: int,
    turn_seconds: float,
) -> tuple[dict[str, Statistics], Statistics]:
    """Times of a token of each, and of reading memory, in turns."""
    runs: dict[str, Callable[[], object]] = {}
    for stepper in steppers:
        stepper.move_to(position)
        runs[_label(stepper)] = lambda stepper=stepper: stepper.token(_TOKEN)  # type: ignore[misc]
    times = interleave(
        {**runs, _READ: probe.run},
        rounds=rounds,
        turn_seconds=turn_seconds,
        warmup_seconds=0.0,
        before_turn={_label(stepper): stepper.rewind for stepper in steppers},
    )
    return times, times.pop(_READ)


def _start(settings: Settings, options: dict[str, Any]) -> dict[str, Any]:
    """See start.py."""
    given = json.dumps({**options, "prompt": settings.prompt})
    done = subprocess.run(
        [sys.executable, "-m", "npu_sim.bench.language.start", str(settings.folder), given],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise UsageError(f"the second start failed:\n{done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
