"""Small models for the tests, with weights and BatchNorm statistics that look trained."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["MLP", "Bottleneck", "DeepResNet", "InplaceResNet", "TransformerBlock", "randomize"]


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
