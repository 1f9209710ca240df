"""LLM: a language model from its directory to generated text."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from operator import index
from reprlib import repr as short
from typing import Any, Literal, cast, overload

import numpy as np
from numpy.typing import NDArray

from npu_compiler.compiled_program import CompiledProgram
from npu_compiler.dtypes import COMPUTE
from npu_runtime import Device, QuantizedWeight, load_weights, quantization_errors
from npu_runtime.weight_loader import Made
from npu_runtime.weight_set import WeightSet
from npu_sim.errors import UsageError
from npu_sim.llm.checkpoint import CheckpointTensors, warn_of_unused
from npu_sim.llm.engine import Engine
from npu_sim.llm.errors import CacheFullError, PromptError
from npu_sim.llm.generation import (
    Generation,
    Limits,
    Sampling,
    TextStream,
    generate,
    is_integer,
)
from npu_sim.llm.model_files import DEFAULT_CACHE_LENGTH, ModelFiles
from npu_sim.llm.programs import CHUNKS, BuildTime, Options, ProgramBuilder, Progress
from npu_sim.llm.tokens import Message, Tokenizer

Prompt = str | Sequence[int]
Prompts = Prompt | Sequence[Prompt]
# What can be gone through but is no prompt: of a tokenizer's dict, the text of its keys.
_NO_PROMPTS = (Mapping, Set, bytes, bytearray)


class LLM:
    """A decoder-only language model on a device, its weights and KV caches in the device's memory.

    Made by ``from_pretrained``. Several streams of text may be read in turns; each has a KV cache
    of its own.
    """

    def __init__(
        self, files: ModelFiles, device: Device, options: Options, progress: Progress
    ) -> None:
        self._files = files
        self._device = device
        self._options = options
        self._progress = progress
        self._builder = ProgramBuilder(files, progress)
        self._tokenizer = Tokenizer(files) if files.has_tokenizer else None
        self._made: Made = {}
        self._engines: dict[tuple[str, int], Engine] = {}
        self._end_tokens = files.end_tokens()
        used = [tensor.name for tensor in self.engine().program.source_tensors]
        warn_of_unused(files.path, used, frozenset(files.tensors.names()))

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        *,
        device: Device | str | None = None,
        max_cache_len: int | None = None,
        compute_dtype: str | None = None,
        weight_dtype: str | None = None,
        chunks: Sequence[int] = CHUNKS,
        progress: Progress | bool = True,
    ) -> LLM:
        """Load a model from a directory with config.json, safetensors and tokenizer.json.

        Args:
            device: a device or its kind; by default the fastest there is.
            max_cache_len: tokens of prompt and generated text together; by default the model's
                limit, 4,096 at most. Memory for the KV cache grows with it, time does not.
            compute_dtype: "float16", "bfloat16" or "float32"; by default that of config.json.
            weight_dtype: "int8" stores the weights of linear layers as 8-bit integers with a scale
                per output channel; ``quantization_errors`` says what that costs.
            chunks: how many tokens of a prompt a step takes at once; there is a program for each.
            progress: whether to show a progress bar on a terminal, or a function called with
                (what, done, in all).

        Raises:
            ModelFilesError, FileError, WeightError: files are missing, damaged or do not fit.
            UnsupportedModelError: names the part of the architecture that cannot run.
        """
        from npu_sim.llm.progress import shown

        files = ModelFiles(path)
        dtype = files.dtype if compute_dtype is None else compute_dtype
        if dtype not in COMPUTE:
            raise UsageError(f"compute_dtype {dtype!r}: choose from {', '.join(COMPUTE)}")
        rows = min(files.max_length, DEFAULT_CACHE_LENGTH)
        rows = rows if max_cache_len is None else max_cache_len
        if not (is_integer(rows) and 1 <= rows <= files.max_length):
            raise UsageError(
                f"max_cache_len {rows!r}: 1 to {files.max_length}, the model's own limit"
            )
        if not (
            isinstance(chunks, Sequence) and all(is_integer(size) and size >= 1 for size in chunks)
        ):
            raise UsageError(f"chunks {short(chunks)}: a list of numbers of tokens, 1 and more")
        sizes = tuple(sorted({int(size) for size in chunks}, reverse=True))
        if weight_dtype not in (None, "int8"):
            raise UsageError(f"weight_dtype {weight_dtype!r}: int8 or None")
        options = Options(1, int(rows), dtype, weight_dtype, sizes)
        target = device if isinstance(device, Device) else Device(device)
        with shown(progress) as report:
            model = cls(files, target, options, report)
        model._progress = _silent
        return model

    def __repr__(self) -> str:
        how = self._options
        return (
            f"LLM({str(self._files.path)!r}, device={self._device.kind!r}, "
            f"max_cache_len={how.rows}, compute_dtype={how.compute_dtype!r}, "
            f"weight_dtype={how.weight_dtype!r})"
        )

    @property
    def device(self) -> Device:
        """The device that the model runs on."""
        return self._device

    @property
    def max_cache_len(self) -> int:
        """Tokens of prompt and generated text together."""
        return self._options.rows

    @property
    def compute_dtype(self) -> str:
        """What activations, the KV cache and (but for int8) the weights are stored in."""
        return self._options.compute_dtype

    @property
    def program(self) -> CompiledProgram:
        """The compiled program of one sequence: entry points prefill, decode and others."""
        return self.engine().program

    @property
    def build_times(self) -> dict[str, BuildTime]:
        """Seconds that extracting and compiling each entry point took; empty where programs came
        from the cache on disk.
        """
        return dict(self._builder.times)

    def quantization_errors(self) -> list[QuantizedWeight]:
        """The error of every quantised weight (of 64 channels of each tensor that it is made of);
        an empty list without ``weight_dtype``.
        """
        program = self.program
        return quantization_errors(self._checkpoint(program), program)

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to token ids and back. ModelFilesError where the directory has no tokenizer."""
        if self._tokenizer is None:
            self._tokenizer = Tokenizer(self._files)
        return self._tokenizer

    @overload
    def generate(
        self,
        prompt: Prompts,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        stream: Literal[True] = True,
        reuse_cache: bool = False,
    ) -> TextStream: ...

    @overload
    def generate(
        self,
        prompt: Prompts,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        *,
        stream: Literal[False],
        reuse_cache: bool = False,
    ) -> Generation | list[Generation]: ...

    def generate(
        self,
        prompt: Prompts,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        stream: bool = True,
        reuse_cache: bool = False,
    ) -> TextStream | Generation | list[Generation]:
        """Continue a prompt, or several at once.

        Args:
            prompt: text or token ids, or a list of such prompts, each with its own length.
            max_new_tokens: of each text; None: as many as fit into the cache.
            temperature: 0 takes the likeliest token; above, tokens are drawn at random.
            top_k: draw among the ``top_k`` likeliest tokens; 0: among all.
            top_p: of those, among the fewest that together have this share of the probability
                (1,024 at most).
            seed: the same one gives the same text.
            stop: strings that end the text; they are not part of it.
            stream: return a `TextStream` of pieces as they are made; else the finished
                `Generation`, or a list of them for a list of prompts.
            reuse_cache: begin with what an earlier text had in common with the prompt, as the
                turns of a conversation have.

        Raises:
            PromptError: a prompt is empty or holds unknown token ids.
            CacheFullError: a prompt is longer than the cache, or (while text is made) no room is
                left for ``max_new_tokens``.
        """
        alone = isinstance(prompt, str) or _is_ids(prompt)
        given = cast(Sequence[Prompt], [prompt] if alone else prompt)
        prompts = [self._ids(p) for p in given]
        if not prompts:
            raise PromptError("no prompts: give a text, token ids, or a list of them")
        if max_new_tokens is not None and not (is_integer(max_new_tokens) and max_new_tokens >= 1):
            raise UsageError(f"max_new_tokens {max_new_tokens!r}: 1 and more, or None")
        sampling = Sampling(temperature, top_k, top_p, seed)
        stops = _strings(stop)
        if stops:
            # Stop strings need text: say so before anything is made.
            _ = self.tokenizer
        limits = Limits(max_new_tokens, self._end_tokens, stops)
        engine = self.engine(len(prompts))
        pieces = generate(engine, self._tokenizer, prompts, sampling, limits, reuse_cache)
        texts = TextStream(pieces, len(prompts))
        if stream:
            return texts
        made = texts.finish()
        return made[0] if alone else made

    @overload
    def chat(
        self, messages: Sequence[Message], *, stream: Literal[True] = True, **options: Any
    ) -> TextStream: ...

    @overload
    def chat(
        self, messages: Sequence[Message], *, stream: Literal[False], **options: Any
    ) -> Generation: ...

    def chat(
        self, messages: Sequence[Message], *, stream: bool = True, **options: Any
    ) -> TextStream | Generation:
        """Answer a conversation: ``generate`` for the model's chat template, with its ``options``.

        ``messages`` are ``{"role": "system" | "user" | "assistant", "content": text}``. Raises
        PromptError where the model has no chat template or the template refuses them.
        """
        options.setdefault("reuse_cache", True)
        texts = self.generate(self.tokenizer.chat(messages), stream=True, **options)
        return texts if stream else texts.finish()[0]

    def logits(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Scores of the next token after every token: float32 (tokens, vocabulary)."""
        return np.concatenate(list(self._logits(self._ids(token_ids))))

    def perplexity(self, text: Prompt) -> float:
        """How surprised the model is by a text: exp of the mean negative log-likelihood of its
        tokens, but for the first.
        """
        ids = self._ids(text)
        if len(ids) < 2:
            raise PromptError("perplexity needs a text of two tokens or more")
        total, at = 0.0, 0
        for logits in self._logits(ids[:-1]):
            wanted = np.array(ids[at + 1 : at + 1 + len(logits)])
            at += len(logits)
            largest = logits.max(axis=-1, keepdims=True)
            shifted = (logits - largest).astype(np.float64)
            scores = np.take_along_axis(shifted, wanted[:, None], axis=-1)[:, 0]
            total += float(np.sum(np.log(np.exp(shifted).sum(axis=-1)) - scores))
        return math.exp(total / (len(ids) - 1))

    def _logits(self, ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        engine = self.engine(1, "score")
        caches = engine.take_caches()
        try:
            yield from engine.score(caches, ids)
        finally:
            engine.give_back(caches)

    def _ids(self, prompt: Prompt) -> list[int]:
        """A prompt as token ids, checked."""
        if isinstance(prompt, str):
            ids = self.tokenizer.encode(prompt)
        elif isinstance(prompt, _NO_PROMPTS):
            raise _no_prompt(prompt)
        else:
            try:
                ids = [index(t) for t in prompt]
            except TypeError:
                raise _no_prompt(prompt) from None
        if not ids:
            raise PromptError("the prompt is empty: there is nothing to continue")
        # What the logits (1, 1, V) of a step are for.
        limit = self.program.entry("decode").output_specs[1].shape[-1]
        wrong = [t for t in ids if not 0 <= t < limit]
        if wrong:
            raise PromptError(f"token id {wrong[0]} is outside the vocabulary of {limit}")
        if len(ids) > self.max_cache_len:
            raise CacheFullError(
                f"the prompt has {len(ids)} tokens, the KV cache holds {self.max_cache_len}: load "
                "the model with a larger max_cache_len, or shorten the prompt"
            )
        return ids

    def engine(self, batch: int = 1, kind: str = "generate") -> Engine:
        """What runs the steps of so many sequences, to "generate" or to "score" texts; made when
        it is first asked for. For those who need more control than ``generate`` gives.
        """
        known = self._engines.get((kind, batch))
        if known is None:
            options = self._options.for_batch(batch)
            program = self._builder.program(kind, options)
            weights = self._weights(program)
            known = Engine(program, self._device, weights, batch, options.rows)
            self._engines[kind, batch] = known
        return known

    def _weights(self, program: CompiledProgram) -> WeightSet:
        """The weights of a program; those that an earlier one has are shared."""
        return load_weights(
            self._checkpoint(program),
            program,
            self._device,
            strict=False,
            progress=lambda done, total: self._progress("loading weights", done, total),
            made=self._made,
        )

    def _checkpoint(self, program: CompiledProgram) -> CheckpointTensors:
        """The files' tensors as a program's source tensors are called."""
        wanted = [tensor.name for tensor in program.source_tensors]
        return CheckpointTensors(self._files.tensors, wanted)


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def _no_prompt(given: object) -> PromptError:
    return PromptError(
        f"the prompt {short(given)} is of type {type(given).__name__}: give a text, token ids, or "
        "a list of such prompts"
    )


def _strings(stop: object) -> tuple[str, ...]:
    """Stop strings as a tuple, checked."""
    stops = (stop,) if isinstance(stop, str) else stop
    if not (isinstance(stops, Sequence) and all(isinstance(text, str) for text in stops)):
        raise UsageError(f"stop {short(stop)}: a string or a list of them")
    if not all(stops):
        raise UsageError("stop: an empty string would end every text")
    return tuple(stops)


def _is_ids(prompt: Any) -> bool:
    """Whether a prompt is token ids, rather than a list of prompts. PromptError for neither."""
    # Arrays and tensors know it themselves.
    dimensions = getattr(prompt, "ndim", None)
    if isinstance(prompt, _NO_PROMPTS) or dimensions == 0 or not hasattr(prompt, "__len__"):
        raise _no_prompt(prompt)
    return dimensions == 1 or len(prompt) == 0 or all(is_integer(t) for t in prompt)
