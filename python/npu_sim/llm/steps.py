"""One step of a language model over a static KV cache, as modules that torch_ir can extract."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

from npu_sim.llm.attention import attention_at
from npu_sim.llm.errors import UnsupportedModelError


class PositionLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Keys and values of one layer, each the rows of all sequences, (B * rows, G, D)."""

    is_compileable = True
    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor, slots: Tensor, rows: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys: Tensor = keys
        self.values: Tensor = values
        self._slots = slots
        self._rows = rows
        self.is_initialized = True
        # How often the model has put keys and values into it.
        self.updates = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the memory is given."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write states (B, G, T, D); keys and values (B, G, rows, D) of all positions."""
        for what, states, cache in (
            ("keys", key_states, self.keys),
            ("values", value_states, self.values),
        ):
            given, expected = states.shape[1::2], cache.shape[1:]
            if given != expected:
                raise UnsupportedModelError(
                    f"{what} of {given[0]} heads of {given[1]} numbers where its configuration "
                    f"has {expected[0]} of {expected[1]}: such attention is not supported"
                )
        self.updates += 1
        self.keys = _written(self.keys, key_states, self._slots)
        self.values = _written(self.values, value_states, self._slots)
        return self._by_sequence(self.keys), self._by_sequence(self.values)

    def _by_sequence(self, cache: Tensor) -> Tensor:
        """A flat cache as (B, G, rows, D)."""
        return cache.view(-1, self._rows, *cache.shape[1:]).transpose(1, 2)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that attention is given, and the position of the first."""
        return self._rows, 0

    def get_seq_length(self) -> int:
        """Zero: where a token stands is said by its position alone."""
        return 0

    def get_max_length(self) -> int:
        """Rows of a sequence."""
        return self._rows

    # Its name in transformers up to 5.13.
    get_max_cache_shape = get_max_length


def _written(cache: Tensor, states: Tensor, slots: Tensor) -> Tensor:
    """The cache (B * rows, G, D) with states (B, G, T, D) in its rows ``slots`` (B, T)."""
    tokens = states.transpose(1, 2).reshape(-1, *cache.shape[1:])
    return cache.index_copy(0, slots.view(-1), tokens)


class PositionCache(Cache):
    """The caches of all layers."""

    def __init__(self, caches: list[Tensor], slots: Tensor, rows: int) -> None:
        pairs = zip(caches[::2], caches[1::2], strict=True)
        self._own = [PositionLayer(k, v, slots, rows) for k, v in pairs]
        super().__init__(layers=list(self._own))

    def check(self, attended: int) -> None:
        """Raise UnsupportedModelError unless each layer has put its keys and values here once, and
        ``attended`` of them computed attention by position.
        """
        for index, layer in enumerate(self._own):
            if layer.updates != 1:
                raise UnsupportedModelError(
                    f"layer {index} puts keys and values into its cache {layer.updates} times; "
                    "only models whose layers all do so once are supported"
                )
        if attended != len(self._own):
            raise UnsupportedModelError(
                f"{attended} of {len(self._own)} layers let their attention be exchanged; "
                "attention of a model's own is not supported"
            )

    def tensors(self) -> list[Tensor]:
        """Keys and values of each layer in turn."""
        return [t for layer in self._own for t in (layer.keys, layer.values)]


class Step(nn.Module):
    """A chunk of T tokens of each of B sequences: tokens in, next tokens and caches out.

    ``rows``: rows of the caches per sequence; ``every_row``: return the logits of all tokens
    instead of those of the last ones.
    """

    def __init__(self, model: nn.Module, *, rows: int, every_row: bool = False) -> None:
        super().__init__()
        self.model = model
        self._rows = rows
        self._every_row = every_row

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        slots: Tensor,
        last: Tensor | None,
        caches: list[Tensor],
    ) -> tuple[Tensor, ...]:
        """Run the model once.

        Args:
            input_ids: (B, T) int64.
            positions: (B, T) int64, where each token stands in its sequence.
            slots: (B, T) int64, the row of the caches that it is written to.
            last: (B,) int64, rows among the B * T tokens whose logits are wanted; None where
                every sequence has one token.
            caches: keys and values of each layer in turn, (B * rows, G, D).

        Returns:
            The likeliest next tokens (B, 1), the logits (B, 1, V) that they come from, the updated
            caches; with ``every_row`` the logits (B, T, V) and the updated caches.
        """
        cache = PositionCache(caches, slots, self._rows)
        hook = None
        if last is not None:
            head = self.model.get_output_embeddings()  # type: ignore[operator]
            # The output layer sees the wanted rows alone; what the model does with its result
            # (scales, soft caps) stays the model's.
            hook = head.register_forward_pre_hook(lambda _, given: (_rows(given[0], last),))
        try:
            with attention_at(positions) as calls:
                logits = self.model(
                    input_ids=input_ids,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                ).logits
        finally:
            if hook is not None:
                hook.remove()
        cache.check(len(set(calls)))
        if self._every_row:
            return (logits, *cache.tensors())
        return (torch.argmax(logits, dim=-1), logits, *cache.tensors())


def _rows(hidden: Tensor, last: Tensor) -> Tensor:
    """Rows ``last`` (B,) of the B * T rows of ``hidden`` (B, T, H), as (B, 1, H)."""
    return hidden.reshape(-1, hidden.shape[-1]).index_select(0, last).unsqueeze(1)


class Sampler(nn.Module):
    """Draws a token from logits: temperature, then the ``top_k`` likeliest tokens, then the fewest
    of them that together have ``top_p`` of the probability.
    """

    def __init__(self, candidates: int) -> None:
        super().__init__()
        self._candidates = candidates

    def forward(
        self, logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, uniform: Tensor
    ) -> Tensor:
        """The tokens (B, 1) that numbers ``uniform`` (B,) in [0, 1) stand for.

        Args:
            logits: (B, 1, V).
            temperature: (B,) float32, above zero.
            top_k: (B,) int64, 0 (all) to ``candidates``.
            top_p: (B,) float32, above zero.
            uniform: (B,) float32.
        """
        scores = logits[:, 0].float()
        values, tokens = torch.topk(scores, self._candidates, dim=-1)
        largest = values[:, :1]
        heat = temperature[:, None]
        every = torch.sum(torch.exp((scores - largest) / heat), dim=-1, keepdim=True)
        limited = top_k[:, None] > 0
        allowed = (torch.arange(self._candidates) < top_k[:, None]) | ~limited
        weights = torch.where(allowed, torch.exp((values - largest) / heat), 0.0)
        total = weights.cumsum(dim=-1)
        mass = torch.where(limited, total[:, -1:], every)
        # A token stays while those before it have less than top_p: the first always does.
        kept = (total - weights) < top_p[:, None] * mass
        total = torch.where(kept, weights, 0.0).cumsum(dim=-1)
        passed = (total <= uniform[:, None] * total[:, -1:]) & kept
        choice = torch.sum(passed.to(torch.int64), dim=-1, keepdim=True)
        most = torch.sum((kept & allowed).to(torch.int64), dim=-1, keepdim=True) - 1
        return torch.gather(tokens, 1, torch.clamp(torch.minimum(choice, most), min=0))


class AnySampler(nn.Module):
    """Draws a token from logits at a temperature, among all tokens."""

    def forward(self, logits: Tensor, temperature: Tensor, uniform: Tensor) -> Tensor:
        """The tokens (B, 1) that numbers ``uniform`` (B,) in [0, 1) stand for.

        Args:
            logits: (B, 1, V).
            temperature: (B,) float32, above zero.
            uniform: (B,) float32.
        """
        values = logits[:, 0].float()
        largest = torch.amax(values, dim=-1, keepdim=True)
        total = torch.exp((values - largest) / temperature[:, None]).cumsum(dim=-1)
        wanted = uniform[:, None] * total[:, -1:]
        passed = torch.sum((total <= wanted).to(torch.int64), dim=-1, keepdim=True)
        return torch.clamp(passed, max=logits.shape[-1] - 1)
