"""ResNet-18 to -152 (v1.5: the stride is on the 3x3 convolution) with torchvision's module names.

State dicts are interchangeable with torchvision's: its published weights load unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from npu_sim.extras import require

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    torch = require("torch", "the ResNet definition")
    from torch import Tensor, nn

# Channels inside the blocks of the four stages.
STAGE_WIDTHS = (64, 128, 256, 512)
NUM_CLASSES = 1000


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that divides the image by its stride; BatchNorm brings the bias."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """What brings a block's input to the shape of its output; nothing where they agree."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(_conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


class _Block(nn.Module):
    """A residual block: relu(branch(x) + shortcut(x)). Subclasses build the branch."""

    expansion: ClassVar[int]
    relu: nn.ReLU
    downsample: nn.Sequential | None

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()

    def branch(self, x: Tensor) -> Tensor:
        """The residual, up to and with its last BatchNorm."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, width * expansion, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.branch(x) + shortcut)
        return out


class BasicBlock(_Block):
    """Two 3x3 convolutions (ResNet-18 and -34)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__(in_channels, width, stride)
        self.conv1 = _conv(in_channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(in_channels, width * self.expansion, stride)

    def branch(self, x: Tensor) -> Tensor:
        """conv-bn-relu-conv-bn."""
        out: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return out


class Bottleneck(_Block):
    """1x1, 3x3 (with the stride) and 1x1 convolutions (ResNet-50 and deeper)."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__(in_channels, width, stride)
        out_channels = width * self.expansion
        self.conv1 = _conv(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, out_channels, stride)

    def branch(self, x: Tensor) -> Tensor:
        """conv-bn-relu twice, then conv-bn."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        out: Tensor = self.bn3(self.conv3(x))
        return out


class ResNet(nn.Module):
    """An image classifier: (N, 3, H, W) float -> (N, num_classes) logits; H, W of at least 32."""

    def __init__(
        self, block: type[_Block], blocks: Sequence[int], num_classes: int = NUM_CLASSES
    ) -> None:
        super().__init__()
        self.conv1 = _conv(3, STAGE_WIDTHS[0], 7, stride=2)
        self.bn1 = nn.BatchNorm2d(STAGE_WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self._channels = STAGE_WIDTHS[0]
        self.layer1 = self._stage(block, STAGE_WIDTHS[0], blocks[0], stride=1)
        self.layer2 = self._stage(block, STAGE_WIDTHS[1], blocks[1], stride=2)
        self.layer3 = self._stage(block, STAGE_WIDTHS[2], blocks[2], stride=2)
        self.layer4 = self._stage(block, STAGE_WIDTHS[3], blocks[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(self._channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _stage(self, block: type[_Block], width: int, count: int, stride: int) -> nn.Sequential:
        """Blocks of one width; the first takes the stride."""
        layers = nn.Sequential()
        for index in range(count):
            layers.append(block(self._channels, width, stride if index == 0 else 1))
            self._channels = width * block.expansion
        return layers

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, 3, H, W)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def resnet18(num_classes: int = NUM_CLASSES) -> ResNet:
    """11.7 M parameters, 1.8 G multiply-adds at 224x224."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes)


def resnet34(num_classes: int = NUM_CLASSES) -> ResNet:
    """21.8 M parameters, 3.7 G multiply-adds at 224x224."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes)


def resnet50(num_classes: int = NUM_CLASSES) -> ResNet:
    """25.6 M parameters, 4.1 G multiply-adds at 224x224."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes)


def resnet101(num_classes: int = NUM_CLASSES) -> ResNet:
    """44.5 M parameters, 7.8 G multiply-adds at 224x224."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes)


def resnet152(num_classes: int = NUM_CLASSES) -> ResNet:
    """60.2 M parameters, 11.5 G multiply-adds at 224x224."""
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes)
