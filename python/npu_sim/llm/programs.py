"""The compiled programs of a language model: one file whose entry points are its steps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING

import npu_compiler
from npu_compiler.cache import ProgramCache, source_digest
from npu_compiler.compiled_program import CompiledProgram
from npu_sim.extras import require
from npu_sim.llm.model_files import ModelFiles

if TYPE_CHECKING:
    from npu_sim.llm.extraction import Extractor

# Tokens of a prompt that a step takes at once: the larger for prompts, the smaller for short ones
# and for what is left over.
CHUNKS = (128, 32, 8)
# Most tokens that top_k and top_p choose among, sorted on the device.
CANDIDATES = 1024
# Called with a text, steps done, and steps in all.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Options:
    """What programs are compiled for. ``rows``: tokens of a sequence; ``chunks``: tokens of a step
    of a prompt, descending.
    """

    batch: int
    rows: int
    compute_dtype: str
    weight_dtype: str | None = None
    chunks: tuple[int, ...] = CHUNKS

    def for_batch(self, batch: int) -> Options:
        """The same for another number of sequences."""
        return replace(self, batch=batch)


@dataclass(frozen=True)
class BuildTime:
    """Seconds that making an entry point took."""

    extract_s: float
    compile_s: float


def prefill_name(chunk: int, chunks: Sequence[int]) -> str:
    """The entry point for chunks of a prompt: ``prefill`` for the largest."""
    return "prefill" if chunk == max(chunks) else f"prefill_{chunk}"


class ProgramBuilder:
    """Extracts and compiles the steps of one model. torch and transformers are imported only when
    there is something to extract.

    ``times`` are those of the steps made so far, by entry point; empty where they came from the
    cache.
    """

    def __init__(self, files: ModelFiles, progress: Progress) -> None:
        self._files = files
        self._progress = progress
        self._extractor: Extractor | None = None
        self.times: dict[str, BuildTime] = {}

    def program(self, kind: str, options: Options) -> CompiledProgram:
        """The program to "generate" or to "score" texts with, from the cache on disk if it is there
        (see `npu_compiler.cache.ProgramCache`).
        """
        made_from = {
            **self._files.fingerprint(),
            **asdict(options),
            "kind": kind,
            "versions": [_version(name) for name in ("torch", "transformers")],
        }
        return ProgramCache().get_or_compile(
            [json.dumps(made_from, sort_keys=True), *map(source_digest, ("torch_ir", __package__))],
            lambda: self.generating(options) if kind == "generate" else self.scoring(options),
        )

    def generating(self, options: Options) -> CompiledProgram:
        """Entry points ``prefill`` (and ``prefill_N``), ``decode``, ``sample``, ``sample_all``."""
        extractor = self._ready(options)
        chunks = [c for c in options.chunks if c > 1]
        total = len(chunks) + 3
        parts: dict[str, CompiledProgram] = {}
        for tokens in (*chunks, 1):
            name = "decode" if tokens == 1 else prefill_name(tokens, chunks)
            self._progress(f"compiling {name}", len(parts), total)
            parts[name] = self._step(name, options, tokens)
        self._progress("compiling sample", len(parts), total)
        for name, ir in (
            ("sample", extractor.sampler(options.batch, CANDIDATES)),
            ("sample_all", extractor.any_sampler(options.batch)),
        ):
            parts[name] = npu_compiler.compile(
                ir, compute_dtype=options.compute_dtype, model_dtype=options.compute_dtype
            )
        return npu_compiler.link(parts)

    def scoring(self, options: Options) -> CompiledProgram:
        """A program that returns the logits of every token of a chunk."""
        chunk = max(options.chunks, default=1)
        self._progress("compiling score", 0, 1)
        return npu_compiler.link({"score": self._step("score", options, chunk, every_row=True)})

    def _ready(self, options: Options) -> Extractor:
        if self._extractor is None:
            require("torch", "compiling a language model")
            require("transformers", "compiling a language model")
            from npu_sim.llm.extraction import Extractor

            self._extractor = Extractor(self._files, options.compute_dtype, options.rows)
        return self._extractor

    def _step(
        self, name: str, options: Options, tokens: int, every_row: bool = False
    ) -> CompiledProgram:
        from npu_sim.llm.extraction import StepShape

        # One row more, for the padding of chunks.
        shape = StepShape(options.batch, tokens, options.rows + 1, every_row)
        extractor = self._ready(options)
        begin = time.perf_counter()
        ir = extractor.step(shape)
        extracted = time.perf_counter()
        caches = [t.name for t in ir.graph_inputs if t.name.startswith("caches_")]
        program = npu_compiler.compile(
            ir,
            compute_dtype=options.compute_dtype,
            weight_dtype=options.weight_dtype,
            donate_inputs=caches,
            # The steps share their weights, which packing would copy.
            weights_in_place=True,
        )
        self.times[name] = BuildTime(extracted - begin, time.perf_counter() - extracted)
        return program


def _version(package: str) -> str:
    """The version of a package, which is not imported; empty where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
