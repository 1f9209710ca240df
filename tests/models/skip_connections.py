"""Models whose tensors are used again further down."""

from __future__ import annotations

import torch
from torch import nn

from tests.models.base import register_model

__all__ = ["DeepResNet", "DenseBlock", "ResidualBlock"]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a skip connection."""

    def __init__(self, channels: int, inplace: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=inplace)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + x)


@register_model(
    name="DeepResNet",
    input_shapes=[(3, 32, 32)],
    categories=["skip_connections"],
    description="Multiple residual blocks",
)
class DeepResNet(nn.Module):
    """Several residual blocks: 27 nodes, 51 weights and 57,617 parameters in its IR."""

    def __init__(self, channels: int = 32, blocks: int = 3, inplace: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=inplace)
        self.blocks = nn.Sequential(*(ResidualBlock(channels, inplace) for _ in range(blocks)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.relu(self.bn(self.conv(x))))
        return self.fc(torch.flatten(self.pool(x), 1))


@register_model(
    name="DenseBlock",
    input_shapes=[(16, 16, 16)],
    categories=["skip_connections"],
    description="DenseNet-style connections",
)
class DenseBlock(nn.Module):
    """Every layer sees the outputs of all layers before it, side by side."""

    def __init__(self, channels: int = 16, growth: int = 8, layers: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(channels + index * growth),
                nn.ReLU(),
                nn.Conv2d(channels + index * growth, growth, 3, padding=1, bias=False),
            )
            for index in range(layers)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)
