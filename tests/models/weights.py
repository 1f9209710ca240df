"""Random weights that look trained."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["randomize"]


def randomize(model: nn.Module, seed: int = 0) -> nn.Module:
    """Fill parameters and statistics at random, away from 0 and 1, and switch to eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            if not tensor.is_floating_point():
                tensor.fill_(7)
            elif name.endswith(("running_var", "bn.weight")):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            else:
                scale = tensor[0].numel() ** -0.5 if tensor.dim() > 1 else 0.3
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale)
    return model.eval()
