"""Random weights with the statistics of trained ones, where no download is wanted.

Untrained BatchNorm layers (mean 0, variance 1, scale 1, shift 0) hide mistakes in folding them;
here every one of these is drawn at random, and activations still stay of order one through the
whole depth.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from npu_sim.extras import require
from npu_sim.models.images import random_images

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = require("torch", "drawing weights")
    from torch import nn

Model = TypeVar("Model", bound="nn.Module")


def trained_like(
    model: Model, seed: int = 0, *, calibration_images: int = 8, image_size: int = 224
) -> Model:
    """Fill an image classifier with trained-like random weights, in place; returns it in eval mode.

    Convolutions and linear layers get He initialisation and BatchNorm random scales and shifts;
    running statistics are measured on random images and then perturbed (they never match one
    batch in practice). The last linear layer is scaled and shifted so that logits have a standard
    deviation of about 2.5 and classes differ between images.
    """
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            _draw_module(module, draw)
        _shrink_residual_branches(model)
        images = random_images(calibration_images, image_size, seed=seed + 7919)
        _calibrate_batch_norm(model, images, draw)
        _calibrate_classifier(model, images, draw)
    return model


def _normal(
    like: torch.Tensor, draw: torch.Generator, std: float, mean: float = 0.0
) -> torch.Tensor:
    return torch.randn(like.shape, generator=draw) * std + mean


def _draw_module(module: nn.Module, draw: torch.Generator) -> None:
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        fan_in = module.weight[0].numel()
        module.weight.copy_(_normal(module.weight, draw, math.sqrt(2.0 / fan_in)))
        if module.bias is not None:
            module.bias.copy_(_normal(module.bias, draw, 0.1))
    elif isinstance(module, nn.BatchNorm2d) and module.affine:
        module.weight.copy_(_normal(module.weight, draw, 0.3).exp() * 0.6)
        module.bias.copy_(_normal(module.bias, draw, 0.25))


def _shrink_residual_branches(model: nn.Module) -> None:
    """Scale down the last BatchNorm of each residual block, as training does.

    With branches as large as the shortcut, depth forgets the image: logits of different images
    become alike, and their small differences, which decide the classes, drown in rounding errors.
    """
    for block in model.modules():
        if hasattr(block, "downsample"):
            norms = [m for m in block.children() if isinstance(m, nn.BatchNorm2d)]
            norms[-1].weight.mul_(0.35)


def _calibrate_batch_norm(model: nn.Module, images: torch.Tensor, draw: torch.Generator) -> None:
    """Measure running statistics in one training-mode pass, then jitter them."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    model(images)
    model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        mean, var = norm.running_mean, norm.running_var
        if mean is None or var is None:
            continue
        mean.add_(_normal(mean, draw, 0.1) * var.sqrt())
        var.mul_(_normal(var, draw, 0.15).exp()).clamp_(min=1e-4)


def _calibrate_classifier(model: nn.Module, images: torch.Tensor, draw: torch.Generator) -> None:
    """Centre and scale the logits over the images, so that an image decides its classes."""
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if not linears or linears[-1].bias is None:
        return
    last = linears[-1]
    logits = model(images)
    mean = logits.mean(0)
    scale = 2.5 / float((logits - mean).std().clamp(min=1e-6))
    last.weight.mul_(scale)
    last.bias.copy_((last.bias - mean) * scale + _normal(last.bias, draw, 0.3))
