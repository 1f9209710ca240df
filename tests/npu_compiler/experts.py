"""A mixture of experts as transformers computes it with ``experts_implementation="batched_mm"``."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from tests.npu_compiler.harness import images

Activation = Callable[[torch.Tensor], torch.Tensor]


class Experts(nn.Module):
    """Gated experts of ``width`` and ``inner``, exact in int8; ``act`` None: without a gate."""

    def __init__(
        self,
        experts: int,
        width: int,
        inner: int,
        act: Activation | None = F.silu,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        self.act, self.transposed = act, transposed
        columns = inner if act is None else 2 * inner
        self.up = nn.Parameter(self._weights(experts, columns, width, seed=1))
        self.down = nn.Parameter(self._weights(experts, width, inner, seed=2))

    def _weights(self, experts: int, n: int, k: int, seed: int) -> torch.Tensor:
        numbers = torch.Generator().manual_seed(seed)
        w = torch.randint(-126, 127, (experts, n, k), generator=numbers).float()
        w[..., 0] = 127
        w = w / (128 * k**0.5)
        return w.transpose(1, 2).contiguous() if self.transposed else w

    def product(self, x: torch.Tensor, w: torch.Tensor, expert: torch.Tensor) -> torch.Tensor:
        if self.transposed:
            return torch.bmm(x.unsqueeze(1), w[expert]).squeeze(1)
        return torch.bmm(w[expert], x.unsqueeze(-1)).squeeze(-1)

    def forward(self, x: torch.Tensor, expert: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        tokens, choices = expert.shape
        expert = expert.reshape(-1)
        y = self.product(x.repeat_interleave(choices, dim=0), self.up, expert)
        if self.act is not None:
            gate, up = y.chunk(2, dim=-1)
            y = self.act(gate) * up
        y = self.product(y, self.down, expert) * weight.reshape(-1).unsqueeze(-1)
        return y.view(tokens, choices, x.shape[1]).sum(dim=1)


def routed(
    tokens: int, experts: int, width: int, choices: int = 2
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs of such a module: tokens, their experts and the weights of those."""
    numbers = torch.Generator().manual_seed(tokens)
    chosen = [torch.randperm(experts, generator=numbers)[:choices] for _ in range(tokens)]
    return (
        images(tokens, width),
        torch.stack(chosen),
        torch.rand(tokens, choices, generator=numbers),
    )
