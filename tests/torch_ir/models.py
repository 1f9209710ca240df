"""Small models for the tests beside those of tests/models, which are passed on."""

from __future__ import annotations

import torch
from torch import nn

from tests.models.attention import TransformerBlock
from tests.models.skip_connections import DeepResNet
from tests.models.weights import randomize

__all__ = ["MLP", "Bottleneck", "DeepResNet", "InplaceResNet", "TransformerBlock", "randomize"]


class InplaceResNet(DeepResNet):
    """The same with in-place activations."""

    def __init__(self) -> None:
        super().__init__(channels=8, blocks=2, inplace=True)


class Bottleneck(nn.Module):
    """A ResNet-50 style stem and bottleneck: stride, downsampling, convolutions without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv1 = nn.Conv2d(8, 4, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2, bias=False)
        self.bn2 = nn.BatchNorm2d(4)
        self.conv3 = nn.Conv2d(4, 16, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(16)
        self.downsample = nn.Sequential(
            nn.Conv2d(8, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16)
        )
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn(self.stem(x))))
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += self.downsample(x)
        return self.fc(torch.flatten(self.avgpool(self.relu(y)), 1))


class MLP(nn.Module):
    """A multi-layer perceptron with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(12, 16),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(16, 8),
            nn.GELU(),
            nn.Linear(8, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)
