"""A transformers causal language model as a module that torch_ir can extract: made from its
configuration, with attention by position and weights without memory; and what cannot run, by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from textwrap import shorten
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from npu_sim.llm.attention import ATTENTION_NAME, register_attention
from npu_sim.llm.errors import UnsupportedModelError

# Layer types whose attention is a causal mask, perhaps with a window.
LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})
# What configurations call their lists of them.
_LAYER_LISTS = ("layer_types", "layers_block_type")
# Rotary embeddings that transformers changes once a text is longer than in training.
MEASURED_ROPES = frozenset({"dynamic", "longrope"})
# Sizes that a configuration may have, all at least one.
_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)
# Tensors that are only allocated, never computed with, while a model is made: its weights.
_ALLOCATIONS = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full}
)


@contextmanager
def _weights_without_memory() -> Iterator[None]:
    """Matrices that a model allocates for its weights go to the meta device; what it computes
    (frequencies of rotary embeddings) and small vectors get real values.
    """

    class Mode(TorchFunctionMode):
        def __torch_function__(
            self,
            func: Any,
            types: Sequence[type],
            args: Sequence[Any] = (),
            kwargs: Mapping[str, Any] | None = None,
        ) -> Any:
            given = dict(kwargs or {})
            if func in _ALLOCATIONS and _is_matrix(args, given):
                given["device"] = "meta"
            return func(*args, **given)

    with Mode():
        yield


def _is_matrix(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether the size among the arguments of an allocation has two dimensions or more."""
    size = kwargs.get("size", args[0] if args else ())
    if isinstance(size, int):
        return len(args) > 1 and isinstance(args[1], int)
    return isinstance(size, Sequence) and len(size) > 1


def rope_types(config: Any) -> frozenset[str]:
    """The types of rotary embedding that a configuration asks for."""
    parameters = getattr(config, "rope_parameters", None) or {}
    # One dict for all layers, or one per type of layer.
    tables = [parameters, *(v for v in parameters.values() if isinstance(v, Mapping))]
    return frozenset(str(t["rope_type"]) for t in tables if "rope_type" in t)


def original_length(config: Any) -> int:
    """Tokens up to which rotary embeddings are those that the model was made with."""
    parameters = getattr(config, "rope_parameters", None) or {}
    found = parameters.get("original_max_position_embeddings") or getattr(
        config, "original_max_position_embeddings", None
    )
    return int(found or getattr(config, "max_position_embeddings", 0) or 0)


def head_sizes(config: Any) -> tuple[int, int]:
    """Heads of keys and values, and the width of a head."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(heads), int(width)


def check_architecture(config: Any, max_length: int) -> None:
    """Raise UnsupportedModelError, naming the part, unless attention by position can express it."""
    name = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedModelError(
            f"{name}: an encoder-decoder; only decoder-only language models are supported"
        )
    if not getattr(config, "is_causal", True) or getattr(
        config, "use_bidirectional_attention", False
    ):
        raise UnsupportedModelError(
            f"{name}: bidirectional attention; only causal language models are supported"
        )
    lacks = [n for n in ("num_hidden_layers", "num_attention_heads") if not _size(config, n)]
    if lacks:
        raise UnsupportedModelError(
            f"{name}: its configuration has no {' and no '.join(lacks)}; only models whose layers "
            "are all attention are supported"
        )
    for size in _SIZES:
        given = getattr(config, size, None)
        if isinstance(given, int) and given < 1:
            raise UnsupportedModelError(f"{name}: {size} {given} in its configuration; 1 and more")
    scaling = rope_types(config) & MEASURED_ROPES
    original = original_length(config)
    if scaling and max_length > original:
        raise UnsupportedModelError(
            f"{name}: rotary embeddings of type {', '.join(sorted(scaling))} depend on the text's "
            f"length beyond {original} tokens: give max_cache_len={original} at most"
        )
    types = {t for n in _LAYER_LISTS for t in getattr(config, n, None) or () if isinstance(t, str)}
    unknown = sorted(types - LAYER_TYPES)
    if unknown:
        raise UnsupportedModelError(
            f"{name}: layers of type {', '.join(unknown)}; supported are "
            f"{', '.join(sorted(LAYER_TYPES))}"
        )
    if getattr(config, "quantization_config", None):
        raise UnsupportedModelError(
            f"{name}: a checkpoint with quantised weights; give the float one "
            "(weight_dtype='int8' quantises it on loading)"
        )


def _size(config: Any, name: str) -> int:
    """A size in a configuration; 0 where it has none."""
    found = getattr(config, name, None)
    return found if isinstance(found, int) else 0


def make_model(config: Any, dtype: torch.dtype, max_length: int) -> nn.Module:
    """The causal language model of a configuration for texts of at most ``max_length`` tokens,
    matrices on the meta device, in eval mode.

    Raises UnsupportedModelError, naming the part that is not supported.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

    check_architecture(config, max_length)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UnsupportedModelError(
            f"{config.model_type}: transformers has no causal language model of this type"
        )
    register_attention()
    options: dict[str, Any] = {"attn_implementation": ATTENTION_NAME, "dtype": dtype}
    if experts_of(config):
        # Picks the weights of the experts that a token goes to, instead of looping over all; the
        # compiler reads them where they are (npu_compiler/fusions/experts.py).
        options["experts_implementation"] = "batched_mm"
    try:
        with _weights_without_memory():
            model: nn.Module = AutoModelForCausalLM.from_config(config, **options)  # type: ignore[no-untyped-call]
    except Exception as error:
        # Models refuse a configuration in many ways; one is not to know attention but their own.
        own = isinstance(error, KeyError) and ATTENTION_NAME in error.args
        reason = "attention of a model's own is not supported" if own else in_a_line(error)
        raise UnsupportedModelError(f"{config.model_type}: {reason}") from error
    for module in model.modules():
        # Within max_length the frequencies stay as they are: no need to look at positions.
        kind: Any = getattr(module, "rope_type", None)
        if isinstance(kind, str) and kind in MEASURED_ROPES:
            module.rope_type = "default"  # type: ignore[assignment]
        elif isinstance(kind, dict):
            kind.update({k: "default" for k, v in kind.items() if v in MEASURED_ROPES})
    return model.eval().requires_grad_(False)


def in_a_line(error: Exception) -> str:
    """What an error says, in a line of at most 300 characters."""
    text = " ".join(str(error).split())
    if isinstance(error, KeyError):
        text = f"unknown value {text}"
    return shorten(text, 300, placeholder=" …") if text else type(error).__name__


def experts_of(config: Any) -> int:
    """How many experts a token is sent to; 0 for a model without a mixture."""
    return int(getattr(config, "num_experts_per_tok", 0) or 0)
