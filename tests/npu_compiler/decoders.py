"""Decoder-only models of transformers as functions of tokens, positions, cache slots and caches,
for the tests of the fusions around attention.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn

ATTENTION = "npu_sim_tests"
# Sizes that all configurations call by these names.
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    # Large enough for attention to prefer some keys.
    "initializer_range": 0.2,
    "attn_implementation": ATTENTION,
}


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    if softcap is not None and attention_mask is not None and scaling is not None:
        return _eager(module, query, key, value, attention_mask, scaling, softcap)
    out = nn.functional.scaled_dot_product_attention(
        query, key, value, attention_mask, scale=scaling, enable_gqa=True
    )
    return out.transpose(1, 2).contiguous(), None


def _eager(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    softcap: float,
) -> tuple[torch.Tensor, None]:
    """Attention written out, with a soft cap."""
    groups = query.shape[1] // key.shape[1]
    key, value = (
        x[:, :, None]
        .expand(*x.shape[:2], groups, *x.shape[2:])
        .reshape(*query.shape[:2], *x.shape[2:])
        for x in (key, value)
    )
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    scores = torch.tanh(scores / softcap) * softcap
    scores = torch.where(attention_mask, scores, torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


transformers.AttentionInterface.register(ATTENTION, _attention)


def tiny(name: str, seed: int = 0, **config: Any) -> Any:
    """A small random model of a family, by the name that its classes begin with."""
    torch.manual_seed(seed)
    suffix = "TextConfig" if name == "Gemma3" else "Config"
    made = getattr(transformers, name + suffix)(**{**SIZES, **config})
    return getattr(transformers, f"{name}ForCausalLM")(made).eval()


class _Caches:
    """What a layer does with its keys and values: rows ``slots`` of its caches are replaced."""

    is_compileable = True

    def __init__(self, caches: list[torch.Tensor], slots: torch.Tensor) -> None:
        self.caches, self.slots = caches, slots

    def _put(self, at: int, new: torch.Tensor) -> torch.Tensor:
        cache = self.caches[at]
        b, rows, heads, size = cache.shape
        flat = cache.view(b * rows, heads, size)
        tokens = new.transpose(1, 2).reshape(-1, heads, size)
        self.caches[at] = flat.index_copy(0, self.slots.view(-1), tokens).view(cache.shape)
        return self.caches[at].transpose(1, 2)

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self._put(2 * layer_idx, keys), self._put(2 * layer_idx + 1, values)

    def get_seq_length(self, *_: Any) -> int:
        return 0


class Decoder(nn.Module):
    """forward(tokens, positions, slots (all [B, T]), k_0, v_0, k_1, ...: [B, rows, heads, size])
    gives logits and the new caches.
    """

    def __init__(self, model: Any, window: int = 0) -> None:
        super().__init__()
        self.model, self.window = model, window

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
        *caches: torch.Tensor,
    ) -> list[torch.Tensor]:
        at = positions[:, None, :, None]
        keys = torch.arange(caches[0].shape[1])
        full = keys <= at
        masks = {"full_attention": full, "sliding_attention": full & (keys > at - self.window)}
        state = _Caches(list(caches), slots)
        result = self.model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=masks if self.window else full,
            past_key_values=state,
            use_cache=True,
        )
        return [result.logits, *state.caches]


def inputs_for(
    model: Any, batch: int, tokens: int, rows: int, dtype: torch.dtype, seed: int = 0
) -> tuple[torch.Tensor, ...]:
    """Tokens of a chunk that follows others, and caches that hold those."""
    config = model.config
    generator = torch.Generator().manual_seed(seed)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    first = torch.randint(0, rows - 1 - tokens, (batch, 1), generator=generator)
    positions = first + torch.arange(tokens)
    slots = positions + torch.arange(batch)[:, None] * rows
    ids = torch.randint(0, config.vocab_size, (batch, tokens), generator=generator)
    shape = (batch, rows, config.num_key_value_heads, size)
    caches = [
        torch.randn(shape, generator=generator).to(dtype)
        for _ in range(2 * config.num_hidden_layers)
    ]
    return ids, positions, slots, *caches
