"""What a language model's benchmark measures, and on whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What is measured. ``prompt``: tokens of the prompt, after which tokens are timed;
    ``positions``: further places to time a token at, ``prompts``: lengths of further prompts, both
    ascending.
    """

    folder: Path
    prompt: int = 128
    max_cache_len: int = 1024
    positions: tuple[int, ...] = ()
    prompts: tuple[int, ...] = ()
    weight_dtype: str | None = None
    compute_dtype: str | None = None
    device: str | None = None
    threads: int = 1
    rounds: int = 8
    turn_seconds: float = 0.15
    against: tuple[str, ...] = ()
