"""llama.cpp as a peer, through its Python bindings: the checkpoint written as a GGUF file."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from npu_sim.bench.language.gguf_file import write_gguf
from npu_sim.bench.language.settings import Settings
from npu_sim.bench.language.stepper import Stepper
from npu_sim.errors import NpuSimError
from npu_sim.llm.model_files import ModelFiles

# Tokens that are handed over at once.
_BATCH = 512


# What llama.cpp says while it loads goes nowhere.
_SILENT = llama_cpp.llama_log_callback(lambda level, text, data: None)


class LlamaCppStepper(Stepper):
    """llama.cpp on the processor; matrices in the checkpoint's dtype, or Q8_0 where ours are int8.

    It has no way to lengthen its cache but to read tokens: `move_to` does so, which takes half an
    hour to 32,640 tokens of a model of 1.5 billion parameters on two cores.
    """

    name = "llama.cpp"
    furthest = 4096

    def __init__(self, settings: Settings) -> None:
        int8 = settings.weight_dtype == "int8"
        self.precision = "Q8_0" if int8 else ModelFiles(settings.folder).dtype
        llama_cpp.llama_log_set(_SILENT, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        # Mapped while the model is in use.
        self._folder = tempfile.TemporaryDirectory(prefix="npu-sim-gguf-")
        path = Path(self._folder.name) / "model.gguf"
        write_gguf(settings.folder, path, int8)
        self._model = llama_cpp.llama_model_load_from_file(
            str(path).encode(), llama_cpp.llama_model_default_params()
        )
        if not self._model:
            raise NpuSimError("llama.cpp refused the model")
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = settings.max_cache_len
        options.n_batch = options.n_ubatch = _BATCH
        options.n_threads = options.n_threads_batch = settings.threads
        self._context: Any = llama_cpp.llama_init_from_model(self._model, options)
        if not self._context:
            raise NpuSimError(f"llama.cpp refused a cache of {settings.max_cache_len} tokens")
        self._memory = llama_cpp.llama_get_memory(self._context)
        vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._words = int(llama_cpp.llama_vocab_n_tokens(vocabulary))
        self._position = 0

    def __del__(self) -> None:
        if getattr(self, "_context", None):
            llama_cpp.llama_free(self._context)
        if getattr(self, "_model", None):
            llama_cpp.llama_model_free(self._model)

    def prompt(self, ids: Sequence[int]) -> int:
        self._forget(0)
        for first in range(0, len(ids), _BATCH):
            self._read(ids[first : first + _BATCH])
        self._position = len(ids)
        return self._likeliest()

    def move_to(self, position: int) -> None:
        self._forget(min(position, self._position))
        for first in range(min(position, self._position), position, _BATCH):
            self._read([1] * min(_BATCH, position - first))
        self._position = position

    def token(self, token: int) -> int:
        self._read([token])
        found = self._likeliest()
        self._forget(self._position)
        return found

    def _read(self, ids: Sequence[int]) -> None:
        array = (llama_cpp.llama_token * len(ids))(*ids)
        status = llama_cpp.llama_decode(
            self._context, llama_cpp.llama_batch_get_one(array, len(ids))
        )
        if status != 0:
            raise NpuSimError(f"llama.cpp's decode failed: status {status}")

    def _likeliest(self) -> int:
        logits = llama_cpp.llama_get_logits_ith(self._context, -1)
        return int(np.ctypeslib.as_array(logits, (self._words,)).argmax())

    def _forget(self, position: int) -> None:
        """Drop what the cache holds from a position on."""
        llama_cpp.llama_memory_seq_rm(self._memory, 0, position, -1)
