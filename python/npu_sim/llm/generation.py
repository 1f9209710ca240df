"""Texts in the making: tokens are drawn one by one and come out as pieces of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from npu_runtime.buffer import NPUBuffer
from npu_sim.errors import UsageError
from npu_sim.llm.engine import Caches, Engine, tokens_of
from npu_sim.llm.errors import CacheFullError
from npu_sim.llm.programs import CANDIDATES
from npu_sim.llm.tokens import Tokenizer, Writer


def is_integer(value: object) -> bool:
    """Whether a value is a whole number, NumPy's included."""
    return isinstance(value, (int, np.integer))


def _is_number(value: object) -> bool:
    """Whether a value is a real number, NumPy's included."""
    return isinstance(value, (int, float, np.integer, np.floating))


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen. Temperature 0 takes the likeliest; ``top_k`` 0 and ``top_p`` 1 leave
    all tokens to choose from. The same seed gives the same text.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not (_is_number(self.temperature) and 0 <= self.temperature < float("inf")):
            raise UsageError(f"temperature {self.temperature!r}: a number from 0 (greedy) up")
        if not (is_integer(self.top_k) and 0 <= self.top_k <= CANDIDATES):
            raise UsageError(f"top_k {self.top_k!r}: 0 (all) to {CANDIDATES}")
        if not (_is_number(self.top_p) and 0 < self.top_p <= 1):
            raise UsageError(f"top_p {self.top_p!r}: above 0, 1 at most")
        if self.seed is not None and not (is_integer(self.seed) and self.seed >= 0):
            raise UsageError(f"seed {self.seed!r}: a whole number from 0 up, or None")


@dataclass(frozen=True)
class Limits:
    """When a text ends: at most ``new_tokens`` (None: as many as fit), at one of ``end_tokens``, at
    one of the strings ``stop``.
    """

    new_tokens: int | None = None
    end_tokens: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Piece:
    """What one token adds to the text of prompt ``index``. ``finish_reason`` comes with the last
    piece: "stop" (an end token or a stop string) or "length".
    """

    text: str
    token_id: int
    index: int = 0
    finish_reason: str | None = None

    def __str__(self) -> str:
        return self.text


@dataclass
class Generation:
    """A generated text, without its prompt. ``token_ids`` include the end token."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None

    def __str__(self) -> str:
        return self.text


class TextStream(Iterator[Piece]):
    """Pieces of the texts, as they are made; ``print(piece, end="")`` shows one.

    ``generations`` holds what has come so far, by prompt; ``finish`` makes the rest. Leaving a loop
    early, ``close`` or Ctrl-C end the texts; the model can be used on.
    """

    def __init__(self, pieces: Iterator[Piece], count: int) -> None:
        self._pieces = pieces
        self.generations = [Generation() for _ in range(count)]

    def __next__(self) -> Piece:
        piece = next(self._pieces)
        made = self.generations[piece.index]
        made.text += piece.text
        made.token_ids.append(piece.token_id)
        made.finish_reason = piece.finish_reason
        return piece

    def finish(self) -> list[Generation]:
        """Make the rest of the texts."""
        for _ in self:
            pass
        return self.generations

    def close(self) -> None:
        """End the texts where they are."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()


def generate(
    engine: Engine,
    tokenizer: Tokenizer | None,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    limits: Limits,
    reuse: bool,
) -> Iterator[Piece]:
    """Pieces of the texts that follow prompts, one per sequence of the engine."""
    caches = engine.take_caches(prompts if reuse else None)
    try:
        yield from _Run(engine, tokenizer, prompts, sampling, limits, caches).pieces()
    finally:
        engine.give_back(caches)


class _Run:
    """The texts of one call."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer | None,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        limits: Limits,
        caches: Caches,
    ) -> None:
        self._engine = engine
        self._caches = caches
        self._prompts = prompts
        self._sampling = sampling
        self._limits = limits
        self._writers = [Writer(tokenizer, limits.stop) for _ in prompts]
        self._made = [0] * len(prompts)
        # A generator each: what one text draws does not depend on its neighbours.
        seeds = np.random.SeedSequence(sampling.seed).spawn(len(prompts))
        self._draws = [np.random.default_rng(seed) for seed in seeds]

    def pieces(self) -> Iterator[Piece]:
        fresh = [p[n:] for p, n in zip(self._prompts, self._caches.lengths, strict=True)]
        outputs = self._engine.prefill(self._caches, fresh)
        going = set(range(len(self._prompts)))
        while going:
            tokens = self._choose(outputs)
            for index in sorted(going):
                piece = self._piece(index, int(tokens[index]))
                if piece.finish_reason is not None:
                    going.discard(index)
                yield piece
            if going:
                self._check_room(going)
                fed = [[int(t)] if i in going else [] for i, t in enumerate(tokens)]
                outputs = self._engine.decode(self._caches, fed)

    def _choose(self, outputs: Sequence[NPUBuffer]) -> Sequence[int]:
        how = self._sampling
        if how.temperature == 0:
            found: Sequence[int] = tokens_of(outputs[0]).tolist()
            return found
        uniform = np.array([draw.random(dtype=np.float32) for draw in self._draws])
        drawn = self._engine.sample(outputs[1], how.temperature, how.top_k, how.top_p, uniform)
        chosen: Sequence[int] = drawn.tolist()
        return chosen

    def _piece(self, index: int, token: int) -> Piece:
        writer, limits = self._writers[index], self._limits
        self._made[index] += 1
        text, reason = "", None
        if token in limits.end_tokens:
            reason = "stop"
        else:
            text = writer.write(token)
            if writer.stopped:
                reason = "stop"
            elif self._made[index] == limits.new_tokens or self._is_full(index):
                reason = "length"
        if reason is not None:
            text += writer.end()
        return Piece(text, token, index, reason)

    def _is_full(self, index: int) -> bool:
        """Whether a text that may be as long as fits is so long that no token can follow."""
        full = self._caches.lengths[index] >= self._engine.rows
        return full and self._limits.new_tokens is None

    def _check_room(self, going: set[int]) -> None:
        rows = self._engine.rows
        full = [i for i in sorted(going) if self._caches.lengths[i] >= rows]
        if full:
            index = full[0]
            raise CacheFullError(
                f"the KV cache of {rows} tokens is full: prompt {index} has "
                f"{len(self._prompts[index])}, {self._made[index]} of "
                f"{self._limits.new_tokens} new ones have been made; "
                "load the model with a larger max_cache_len, or ask for fewer tokens"
            )
