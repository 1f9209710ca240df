"""A transformers causal language model as a module that torch_ir can extract: static KV cache,
attention by position, weights without memory.

Everything goes through transformers' public extension points: a ``Cache`` subclass is passed as
``past_key_values``; attention and its mask are functions registered under the name
``ATTENTION_NAME``; the model is made from its configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from npu_sim.llm.errors import UnsupportedModelError

# Name of our attention in transformers' registries.
ATTENTION_NAME = "npu_sim"
# Layer types whose attention is a causal mask, perhaps with a window.
LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})
# Rotary embeddings that transformers changes once a text is longer than in training.
MEASURED_ROPES = frozenset({"dynamic", "longrope"})
# Tensors that are only allocated, never computed with, while a model is made: its weights.
_ALLOCATIONS = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full}
)


def register_attention() -> None:
    """Make our attention known to transformers (again and again is fine)."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION_NAME, _attention)
    AttentionMaskInterface.register(ATTENTION_NAME, _mask)


def _mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: Tensor,
    local_size: int | None = None,
    **_: Any,
) -> Tensor:
    """The bool mask (B, 1, T, rows) of what each token sees: keys up to its position, not further
    back than a window. ``q_offset`` is what ``PositionCache.get_query_offset`` gave.
    """
    keys = torch.arange(kv_length)
    positions = q_offset[:, None, :, None]
    visible = keys <= positions
    if local_size is not None:
        visible = visible & (keys > positions - local_size)
    return visible


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of query (B, H, T, D) to key and value (B, G, rows, D): (B, T, H, D)."""
    if attention_mask is None:
        raise UnsupportedModelError(
            f"attention of {type(module).__name__}: no causal mask; only decoder-only attention "
            "is supported"
        )
    grouped = query.shape[1] != key.shape[1]
    if softcap is None:
        result = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=grouped
        )
    else:
        result = _softcapped(query, key, value, attention_mask, scaling, softcap)
    return result.transpose(1, 2), None


def _softcapped(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None, softcap: float
) -> Tensor:
    """Attention whose scores go through softcap * tanh(scores / softcap): SDPA has no word for it.
    Scores and weights are float32.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key = key.repeat_interleave(groups, dim=1)
        value = value.repeat_interleave(groups, dim=1)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query, key.transpose(2, 3)) * scale
    scores = torch.tanh(scores / softcap) * softcap
    scores = torch.where(mask, scores, torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(weights, value)


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
    return int(found or config.max_position_embeddings)


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
    scaling = rope_types(config) & MEASURED_ROPES
    original = original_length(config)
    if scaling and max_length > original:
        raise UnsupportedModelError(
            f"{name}: rotary embeddings of type {', '.join(sorted(scaling))} depend on the text's "
            f"length beyond {original} tokens: give max_cache_len={original} at most"
        )
    unknown = sorted(set(getattr(config, "layer_types", None) or ()) - LAYER_TYPES)
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


def make_model(config: Any, dtype: torch.dtype, max_length: int) -> nn.Module:
    """The causal language model of a configuration for texts of at most ``max_length`` tokens,
    matrices on the meta device, in eval mode.

    Raises UnsupportedModelError, naming the part that is not supported.
    """
    from transformers import AutoModelForCausalLM

    check_architecture(config, max_length)
    register_attention()
    options: dict[str, Any] = {"attn_implementation": ATTENTION_NAME, "dtype": dtype}
    if experts_of(config):
        # Gathers the weights of the experts that a token goes to, instead of looping over all.
        options["experts_implementation"] = "batched_mm"
    try:
        with _weights_without_memory():
            model: nn.Module = AutoModelForCausalLM.from_config(config, **options)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise UnsupportedModelError(f"{config.model_type}: {error}") from error
    for module in model.modules():
        # Within max_length the frequencies stay as they are: no need to look at positions.
        kind: Any = getattr(module, "rope_type", None)
        if isinstance(kind, str) and kind in MEASURED_ROPES:
            module.rope_type = "default"  # type: ignore[assignment]
        elif isinstance(kind, dict):
            kind.update({k: "default" for k, v in kind.items() if v in MEASURED_ROPES})
    return model.eval().requires_grad_(False)


def experts_of(config: Any) -> int:
    """How many experts a token is sent to; 0 for a model without a mixture."""
    return int(getattr(config, "num_experts_per_tok", 0) or 0)
