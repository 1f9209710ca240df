"""Models that use one weight in several places."""

from __future__ import annotations

import torch
from torch import nn

from tests.models.base import register_model

__all__ = ["RecurrentUnroll", "WeightTying"]

_VOCABULARY = 100


@register_model(
    name="RecurrentUnroll",
    input_shapes=[(6, 16)],
    categories=["shared_weights"],
    description="Repeated application of same cell",
)
class RecurrentUnroll(nn.Module):
    """A gated cell applied to each step of a sequence [steps, features]."""

    def __init__(self, features: int = 16, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.gate = nn.Linear(features + width, width)
        self.candidate = nn.Linear(features + width, width)
        self.head = nn.Linear(width, 10)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        state = sequence.new_zeros(sequence.shape[0], self.width)
        for step in sequence.unbind(1):
            seen = torch.cat([step, state], 1)
            gate = torch.sigmoid(self.gate(seen))
            state = (1 - gate) * state + gate * torch.tanh(self.candidate(seen))
        return self.head(state)


@register_model(
    name="WeightTying",
    input_shapes=[(12,)],
    categories=["shared_weights"],
    description="Embedding-output weight sharing",
    input_dtypes=[torch.int64],
    integer_limit=_VOCABULARY,
)
class WeightTying(nn.Module):
    """Token ids to logits, with one matrix for the embedding and the output projection."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(_VOCABULARY, width)
        self.hidden = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, _VOCABULARY, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        return self.head(self.norm(x + torch.relu(self.hidden(x))))
