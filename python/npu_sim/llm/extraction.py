"""IRs of a language model's steps: the model is made on the meta device and traced."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor

from npu_runtime.weight_loader import check_tensors
from npu_sim.llm.architecture import head_sizes, in_a_line, make_model
from npu_sim.llm.checkpoint import checkpoint_names
from npu_sim.llm.errors import ModelFilesError, UnsupportedModelError
from npu_sim.llm.model_files import ModelFiles
from npu_sim.llm.steps import AnySampler, Sampler, Step
from torch_ir import IR, TorchIRError, extract_ir


@dataclass(frozen=True)
class StepShape:
    """Sizes of a step: sequences, tokens of each, rows of the cache of each, whose logits."""

    batch: int
    tokens: int
    rows: int
    every_row: bool = False


class Extractor:
    """Makes the IRs of one model. ``max_length``: tokens that a sequence may have."""

    def __init__(self, files: ModelFiles, dtype: str, max_length: int) -> None:
        self._files = files
        self._dtype: torch.dtype = getattr(torch, dtype)
        with _quiet():
            self._config = _config(files)
            _check_layers(self._config, files)
            self._model = make_model(self._config, self._dtype, max_length)
        self._names = self._checkpoint_names()

    @property
    def vocabulary(self) -> int:
        """Token ids that the model knows; logits have as many columns."""
        return int(self._config.vocab_size)

    def step(self, shape: StepShape) -> IR:
        """The IR of a step. Its inputs are input_ids, positions, slots, (last,) caches_0, …"""
        single = shape.tokens == 1
        inputs = (
            *(torch.zeros(shape.batch, shape.tokens, dtype=torch.int64) for _ in range(3)),
            None if single or shape.every_row else torch.zeros(shape.batch, dtype=torch.int64),
            self._caches(shape),
        )
        module = Step(self._model, rows=shape.rows, every_row=shape.every_row).eval()
        try:
            with _quiet():
                ir = extract_ir(module, inputs, model_name=self._config.model_type)
        except TorchIRError as error:
            named = error.__cause__ if isinstance(error.__cause__, UnsupportedModelError) else error
            raise UnsupportedModelError(f"{self._config.model_type}: {named}") from error
        self._rename(ir)
        return ir

    def sampler(self, batch: int, candidates: int) -> IR:
        """The IR that draws tokens among the likeliest ``candidates``; see `steps.Sampler`."""
        logits = torch.zeros(batch, 1, self.vocabulary, dtype=self._dtype)
        numbers = [torch.zeros(batch) for _ in range(3)]
        top_k = torch.zeros(batch, dtype=torch.int64)
        inputs = (logits, numbers[0], top_k, numbers[1], numbers[2])
        return extract_ir(Sampler(min(candidates, self.vocabulary)).eval(), inputs)

    def any_sampler(self, batch: int) -> IR:
        """The IR that draws tokens among all there are; see `steps.AnySampler`."""
        logits = torch.zeros(batch, 1, self.vocabulary, dtype=self._dtype)
        return extract_ir(AnySampler().eval(), (logits, torch.zeros(batch), torch.zeros(batch)))

    def _caches(self, shape: StepShape) -> list[Tensor]:
        """Keys and values of each layer, on the meta device."""
        size = (shape.batch * shape.rows, *head_sizes(self._config))
        return [
            torch.empty(size, dtype=self._dtype, device="meta")
            for _ in range(2 * self._config.num_hidden_layers)
        ]

    def _checkpoint_names(self) -> dict[str, str]:
        """By name in `Step`, the checkpoint's name of every parameter and buffer that it holds."""
        by_tensor: dict[int, list[str]] = {}
        kept = self._model.state_dict(keep_vars=True)
        for name, tensor in kept.items():
            by_tensor.setdefault(id(tensor), []).append(name)
        same = {name: by_tensor[id(tensor)] for name, tensor in kept.items()}
        prefix = str(getattr(self._model, "base_model_prefix", ""))
        tensors = self._files.tensors
        available = frozenset(tensors.names())
        try:
            found = checkpoint_names(same, prefix, available)
        except ModelFilesError as error:
            raise ModelFilesError(f"{self._files.path}: {error}") from None
        # Before anything is traced: stacked ones are checked when they are loaded.
        wanted = {
            theirs: (tuple(kept[name].shape), str(kept[name].dtype).removeprefix("torch."))
            for name, theirs in found.items()
            if theirs in available
        }
        check_tensors(tensors, wanted, wanted, self._config.model_type, strict=False)
        return {f"model.{name}": theirs for name, theirs in found.items()}

    def _rename(self, ir: IR) -> None:
        """Call the weights of an IR as the checkpoint does, where tied ones have one name."""
        for weight in ir.weights:
            weight.name = self._names.get(weight.name, weight.name)
        ir.weights = list({weight.name: weight for weight in ir.weights}.values())
        ir.tied_weights = {}
        for placeholder, name in ir.weight_name_mapping.items():
            ir.weight_name_mapping[placeholder] = self._names.get(name, name)


def _check_layers(config: Any, files: ModelFiles) -> None:
    """Raise ModelFilesError for more layers than there are tensors: making them takes long."""
    layers = getattr(config, "num_hidden_layers", 0)
    tensors = sum(1 for _ in files.tensors.names())
    if isinstance(layers, int) and layers > tensors:
        raise ModelFilesError(
            f"{files.path}: config.json says {layers} layers, the checkpoint has {tensors} "
            "tensors; config.json may be another model's"
        )


def _config(files: ModelFiles) -> Any:
    """The transformers configuration of a model directory; of a model of several parts, that of
    the language model.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(
            files.path, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        # Configurations check their values in many ways.
        name = files.config["model_type"]
        reason = in_a_line(error)
        if name not in transformers.CONFIG_MAPPING:
            reason = f"not among the models of transformers {transformers.__version__}"
            if "auto_map" in files.config:
                reason += "; code that comes with a model (auto_map) is not run"
        raise UnsupportedModelError(f"{files.path}: model_type {name!r}: {reason}") from error
    text = getattr(config, "text_config", None)
    if not isinstance(text, transformers.PreTrainedConfig):
        return config
    text.quantization_config = getattr(config, "quantization_config", None)
    return text


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep remarks of transformers and torch about training and hardware to themselves."""
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.utils.logging.set_verbosity(before)
