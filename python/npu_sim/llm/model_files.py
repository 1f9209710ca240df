"""A Hugging Face model directory: configuration, tensors, tokenizer; nothing is downloaded."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from npu_compiler.dtypes import COMPUTE
from npu_runtime.tensor_files import TensorSource, open_tensors
from npu_sim.llm.errors import ModelFilesError, UnsupportedModelError

CONFIG_NAME = "config.json"
TOKENIZER_NAME = "tokenizer.json"
# Cache rows of a sequence, unless asked for otherwise: the model's own limit, or this.
DEFAULT_CACHE_LENGTH = 4096


class ModelFiles:
    """The files of a model. ``config`` is config.json; tensors are opened when first needed.

    Raises ModelFilesError for what is missing or damaged, naming the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            what = "is a file" if self.path.exists() else "no such directory"
            raise ModelFilesError(
                f"{self.path}: {what}; give a model directory with {CONFIG_NAME}, safetensors and "
                f"{TOKENIZER_NAME} (a repository of the Hugging Face hub, downloaded beforehand)"
            )
        if not (self.path / CONFIG_NAME).exists():
            raise ModelFilesError(f"{self.path}: no {CONFIG_NAME}; is it a model directory?")
        self.config = self.read_json(CONFIG_NAME)
        if not isinstance(self.config.get("model_type"), str):
            raise ModelFilesError(
                f"{self.path / CONFIG_NAME}: no model_type, which says what the model is"
            )
        self._tensors: TensorSource | None = None

    @property
    def tensors(self) -> TensorSource:
        """The tensors by name. FileError for a missing or damaged shard."""
        if self._tensors is None:
            self._tensors = open_tensors(self.path)
        return self._tensors

    @property
    def dtype(self) -> str:
        """The dtype that config.json declares for the weights: a compute dtype of the NPU."""
        text = self._text()
        given = text.get("dtype", text.get("torch_dtype", "float32"))
        name = str(given).removeprefix("torch.")
        if name not in COMPUTE:
            raise UnsupportedModelError(
                f"{self.path / CONFIG_NAME}: dtype {name!r}; choose compute_dtype among "
                f"{', '.join(COMPUTE)}"
            )
        return name

    @property
    def max_length(self) -> int:
        """Tokens that the model was made for."""
        for key in ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length"):
            length = self._text().get(key)
            if isinstance(length, int):
                if length < 1:
                    raise ModelFilesError(f"{self.path / CONFIG_NAME}: {key} {length}; 1 and more")
                return length
        return DEFAULT_CACHE_LENGTH

    def _text(self) -> dict[str, Any]:
        """The configuration of the language model; the whole one but for models of several
        parts.
        """
        part = self.config.get("text_config")
        return {**self.config, **part} if isinstance(part, dict) else self.config

    @property
    def has_tokenizer(self) -> bool:
        """Whether text can be read and written."""
        return self.has(TOKENIZER_NAME)

    def end_tokens(self) -> frozenset[int]:
        """Ids that end a text: those of generation_config.json and config.json."""
        found: set[int] = set()
        for name in ("generation_config.json", CONFIG_NAME):
            if (self.path / name).exists():
                given = self.read_json(name).get("eos_token_id")
                tokens = given if isinstance(given, list) else [] if given is None else [given]
                if not all(isinstance(token, int) for token in tokens):
                    raise ModelFilesError(
                        f"{self.path / name}: eos_token_id {given!r}: a token id, a list of them, "
                        "or null"
                    )
                found.update(tokens)
        return frozenset(found)

    def read_json(self, name: str) -> dict[str, Any]:
        """The content of a JSON file of the directory."""
        file = self.path / name
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelFilesError(f"{file}: cannot be read as JSON: {error}") from error
        if not isinstance(content, dict):
            raise ModelFilesError(f"{file}: a JSON object expected, found {type(content).__name__}")
        return content

    def has(self, name: str) -> bool:
        """Whether the directory has a file of that name."""
        return (self.path / name).exists()

    def fingerprint(self) -> Mapping[str, Any]:
        """What a compiled program depends on: the configuration, and how tensors are called."""
        return {"config": self.config, "tensors": sorted(self.tensors.names())}
