"""Attention, alone and in a transformer block."""

from __future__ import annotations

import torch
from torch import nn

from tests.models.base import register_model

__all__ = ["CrossAttention", "SelfAttention", "TransformerBlock"]


@register_model(
    name="SelfAttention",
    input_shapes=[(16, 64)],
    categories=["attention"],
    description="Basic self-attention",
)
class SelfAttention(nn.Module):
    """Causal attention of tokens [length, width] to one another, with one fused projection."""

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


@register_model(
    name="CrossAttention",
    input_shapes=[(8, 32), (20, 48)],
    categories=["attention"],
    description="Cross-attention",
)
class CrossAttention(nn.Module):
    """Queries [length, 32] look at a context [length, 48] of another length and width."""

    def __init__(self, width: int = 32, context_width: int = 48) -> None:
        super().__init__()
        self.scale = width**-0.5
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(context_width, width)
        self.v_proj = nn.Linear(context_width, width)
        self.out_proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, query: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        scores = torch.bmm(self.q_proj(query), self.k_proj(context).transpose(1, 2))
        weights = torch.softmax(scores * self.scale, dim=-1)
        mixed = torch.bmm(weights, self.v_proj(context))
        return self.norm(query + self.out_proj(mixed))


@register_model(
    name="TransformerBlock",
    input_shapes=[(16, 64)],
    categories=["attention"],
    description="Complete transformer block",
)
class TransformerBlock(nn.Module):
    """Self-attention and a feed-forward network, each with a residual connection and a
    LayerNorm."""

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width)
        self.ffn = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        size = width // self.heads
        q = self.q_proj(x).view(batch, length, self.heads, size).transpose(1, 2)
        k = self.k_proj(x).view(batch, length, self.heads, size).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, self.heads, size).transpose(1, 2)
        scores = torch.matmul(q, k.transpose(-2, -1)) / size**0.5
        mixed = torch.matmul(torch.softmax(scores, dim=-1), v)
        mixed = mixed.transpose(1, 2).contiguous().view(batch, length, width)
        x = self.norm1(x + self.out_proj(mixed))
        return self.norm2(x + self.ffn(x))
