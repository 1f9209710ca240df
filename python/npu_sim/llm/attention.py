"""Attention by position, as transformers' models call it: in place of their own attention and mask,
by the names that both are registered under. What it cannot express raises UnsupportedModelError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from npu_sim.llm.errors import UnsupportedModelError

# Name of our attention in transformers' registries.
ATTENTION_NAME = "npu_sim"
# Arguments that do not change what attention computes in a model that is not trained, or say what
# the mask says too.
_WITHOUT_EFFECT = frozenset(
    {
        "dropout",
        "is_causal",
        "output_attentions",
        "output_router_logits",
        "position_ids",
        "sliding_window",
        "use_cache",
    }
)
# While a model is called: where its tokens stand, (B, T), and the modules that asked for attention.
_positions: ContextVar[Tensor] = ContextVar("positions")
_calls: ContextVar[list[nn.Module] | None] = ContextVar("calls", default=None)


def register_attention() -> None:
    """Make our attention known to transformers (again and again is fine)."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION_NAME, _attention)
    AttentionMaskInterface.register(ATTENTION_NAME, position_mask)


@contextmanager
def attention_at(positions: Tensor) -> Iterator[list[nn.Module]]:
    """Tokens stand at ``positions`` (B, T) int64 meanwhile. Gives the modules whose attention is
    computed here, each as often as that happens.
    """
    calls: list[nn.Module] = []
    tokens = _positions.set(positions), _calls.set(calls)
    try:
        yield calls
    finally:
        _positions.reset(tokens[0])
        _calls.reset(tokens[1])


def position_mask(
    *,
    kv_length: int,
    mask_function: Callable[..., Any],
    local_size: int | None = None,
    **_: Any,
) -> Tensor:
    """The bool mask (B, 1, T, rows) of what each token sees: keys up to its position
    (`attention_at`), not further back than a window. What transformers says of positions differs
    between its versions, and is the same for all sequences.
    """
    _check_mask(mask_function, local_size)
    keys = torch.arange(kv_length)
    positions = _positions.get()[:, None, :, None]
    visible = keys <= positions
    if local_size is not None:
        visible = visible & (keys > positions - local_size)
    return visible


def _check_mask(mask_function: Callable[..., Any], local_size: int | None) -> None:
    """Raise UnsupportedModelError unless a mask is causal, its window, if any, a sliding one."""
    from transformers.masking_utils import (
        causal_mask_function,
        sliding_window_causal_mask_function,
    )

    known: Any = causal_mask_function
    if local_size is not None:
        known = sliding_window_causal_mask_function(local_size)
    if not _alike(mask_function, known):
        name = getattr(mask_function, "__qualname__", type(mask_function).__name__)
        raise UnsupportedModelError(
            f"an attention mask of the model's own ({name}"
            + ("" if local_size is None else f" over {local_size} tokens")
            + "); only causal masks, perhaps with a sliding window, are supported"
        )


def _alike(a: object, b: object) -> bool:
    """Whether two functions have the same code and were made with the same values."""
    if isinstance(a, FunctionType) and isinstance(b, FunctionType):
        held = [[c.cell_contents for c in f.__closure__ or ()] for f in (a, b)]
        return a.__code__ is b.__code__ and _alike(*map(tuple, held))
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(_alike(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and isinstance(a, (int, str)) and a == b


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention of query (B, H, T, D) to key and value (B, G, rows, D): (B, T, H, D)."""
    name = type(module).__name__
    if attention_mask is None:
        raise UnsupportedModelError(
            f"attention of {name}: no causal mask; only decoder-only attention is supported"
        )
    unknown = sorted(n for n, v in others.items() if v is not None and n not in _WITHOUT_EFFECT)
    if unknown:
        raise UnsupportedModelError(
            f"attention of {name}: {', '.join(unknown)}, which attention by position does not know"
        )
    calls = _calls.get()
    if calls is not None:
        calls.append(module)
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
