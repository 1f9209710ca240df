"""Random images with structure at every scale, as photographs have, each one different."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_sim.extras import require

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "drawing random images")


def random_images(count: int, size: int = 224, *, seed: int = 0) -> torch.Tensor:
    """Float32 images (count, 3, size, size) of about zero mean and unit variance.

    Image k of a seed is the same whatever ``count`` is. Noise of ever coarser grain is added with
    growing weight (natural images have a 1/f spectrum); contrast, colour cast and grain differ
    from image to image, so that a network's logits differ too.
    """
    images = []
    for index in range(count):
        draw = torch.Generator().manual_seed(seed * 1_000_003 + index)
        image = torch.zeros(1, 3, size, size)
        slope = 0.4 + 1.2 * float(torch.rand((), generator=draw))
        grain = size
        weight = 0.3
        while grain >= 2:
            noise = torch.randn(1, 3, grain, grain, generator=draw)
            # Part of the noise is shared by the colours, as light and shade are.
            noise = 0.5 * noise + 0.8 * noise[:, :1]
            image += weight * torch.nn.functional.interpolate(
                noise, size=(size, size), mode="bilinear", align_corners=False
            )
            grain //= 2
            weight *= 2**slope / 1.6
        image /= image.std()
        contrast = 0.6 + 0.8 * torch.rand(1, 1, 1, 1, generator=draw)
        cast = 0.5 * torch.randn(1, 3, 1, 1, generator=draw)
        images.append(image * contrast + cast)
    return torch.cat(images)
