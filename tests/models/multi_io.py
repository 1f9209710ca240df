"""Models with several inputs or several outputs."""

from __future__ import annotations

import torch
from torch import nn

from tests.models.base import register_model

__all__ = ["MultiTaskHead", "SiameseEncoder"]


@register_model(
    name="SiameseEncoder",
    input_shapes=[(3, 32, 32), (3, 32, 32)],
    categories=["multi_io"],
    description="Apply same encoder to two images",
)
class SiameseEncoder(nn.Module):
    """Two images through one encoder: both embeddings and their similarity."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 16),
        )

    def forward(
        self, first: torch.Tensor, second: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        a, b = self.encoder(first), self.encoder(second)
        return a, b, nn.functional.cosine_similarity(a, b)


@register_model(
    name="MultiTaskHead",
    input_shapes=[(3, 32, 32)],
    categories=["multi_io"],
    description="Shared backbone + multi-output heads",
)
class MultiTaskHead(nn.Module):
    """One backbone with a head for the class, one for a box and one for a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classes = nn.Linear(32, 10)
        self.box = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4), nn.Sigmoid())
        self.mask = nn.ConvTranspose2d(32, 1, 2, stride=2)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        features = self.backbone(image)
        pooled = torch.flatten(self.pool(features), 1)
        return self.classes(pooled), self.box(pooled), torch.sigmoid(self.mask(features))
