"""Convolutional families in small definitions of their own: the blocks that set each apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 10


def conv_bn(
    channels: int,
    out: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    act: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """Convolution without bias, BatchNorm and, if any, an activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
    ]
    return nn.Sequential(*layers, *([act()] if act else []))


def classifier(channels: int) -> nn.Sequential:
    """Global average pooling and a linear layer: (N, C, H, W) -> (N, CLASSES)."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def vgg() -> nn.Module:
    """VGG: stacks of 3x3 convolutions with bias, max pooling, a deep classifier with dropout."""
    layers: list[nn.Module] = []
    channels = 3
    for width, depth in ((16, 1), (32, 2), (64, 2)):
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2, 2))
    head = [nn.Linear(64 * 7 * 7, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, CLASSES)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d((7, 7)), nn.Flatten(), *head)


class Residual(nn.Module):
    """relu(branch(x) + shortcut(x)), or their sum alone."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None, relu: bool) -> None:
        super().__init__()
        self.branch, self.shortcut, self.relu = branch, shortcut, relu

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x) + (x if self.shortcut is None else self.shortcut(x))
        return F.relu(y, inplace=True) if self.relu else y


def resnext() -> nn.Module:
    """ResNeXt: bottlenecks whose 3x3 convolution has 8 groups."""

    def block(channels: int, out: int, stride: int) -> nn.Module:
        branch = nn.Sequential(
            conv_bn(channels, out // 2),
            conv_bn(out // 2, out // 2, 3, stride, groups=8),
            conv_bn(out // 2, out, act=None),
        )
        same = stride == 1 and channels == out
        shortcut = None if same else conv_bn(channels, out, 1, stride, act=None)
        return Residual(branch, shortcut, relu=True)

    stem = nn.Sequential(conv_bn(3, 32, 7, 2), nn.MaxPool2d(3, 2, 1))
    return nn.Sequential(
        stem, block(32, 64, 1), block(64, 64, 1), block(64, 128, 2), classifier(128)
    )


class SqueezeExcite(nn.Module):
    """Channels weighted by a gate computed from their means."""

    def __init__(self, channels: int, gate: type[nn.Module], act: type[nn.Module]) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // 4, 1)
        self.expand = nn.Conv2d(channels // 4, channels, 1)
        self.act, self.gate = act(), gate()

    def forward(self, x: Tensor) -> Tensor:
        scale = self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * self.gate(scale)


def inverted_residual(
    channels: int,
    out: int,
    kernel: int,
    stride: int,
    act: type[nn.Module],
    squeeze: nn.Module | None = None,
    expand: int = 4,
) -> nn.Module:
    """Expansion, depthwise convolution, gate, linear projection; a sum where shapes fit."""
    wide = channels * expand
    layers = [conv_bn(channels, wide, act=act)]
    layers.append(conv_bn(wide, wide, kernel, stride, groups=wide, act=act))
    layers += [squeeze] if squeeze is not None else []  # type: ignore[list-item]
    branch = nn.Sequential(*layers, conv_bn(wide, out, act=None))
    return Residual(branch, None, relu=False) if stride == 1 and channels == out else branch


def mobilenet_v2() -> nn.Module:
    """MobileNetV2: inverted residuals with ReLU6."""
    act = nn.ReLU6
    blocks = [
        inverted_residual(16, 24, 3, 2, act),
        inverted_residual(24, 24, 3, 1, act),
        inverted_residual(24, 32, 3, 2, act),
    ]
    return nn.Sequential(
        conv_bn(3, 16, 3, 2, act=act), *blocks, conv_bn(32, 64, act=act), classifier(64)
    )


def mobilenet_v3() -> nn.Module:
    """MobileNetV3: hard-swish, hard-sigmoid gates, 5x5 depthwise convolutions."""
    act = nn.Hardswish

    def gate(wide: int) -> nn.Module:
        return SqueezeExcite(wide, nn.Hardsigmoid, nn.ReLU)

    blocks = [
        inverted_residual(16, 24, 3, 2, nn.ReLU),
        inverted_residual(24, 40, 5, 2, act, gate(96)),
        inverted_residual(40, 40, 5, 1, act, gate(160)),
    ]
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64), act(), nn.Linear(64, CLASSES)
    )
    return nn.Sequential(conv_bn(3, 16, 3, 2, act=act), *blocks, conv_bn(40, 64, act=act), head)


def efficientnet() -> nn.Module:
    """EfficientNet: MBConv blocks with SiLU and sigmoid gates."""
    act = nn.SiLU

    def gate(wide: int) -> nn.Module:
        return SqueezeExcite(wide, nn.Sigmoid, act)

    blocks = [
        inverted_residual(16, 16, 3, 1, act, gate(64)),
        inverted_residual(16, 24, 3, 2, act, gate(64)),
        inverted_residual(24, 40, 5, 2, act, gate(96)),
        inverted_residual(40, 40, 5, 1, act, gate(160)),
    ]
    return nn.Sequential(
        conv_bn(3, 16, 3, 2, act=act), *blocks, conv_bn(40, 64, act=act), classifier(64)
    )


class DenseLayer(nn.Module):
    """BatchNorm before each convolution; the input is concatenated with the new channels."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(4 * growth)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(y)))], dim=1)


def densenet() -> nn.Module:
    """DenseNet: dense blocks of growth 12 and transitions that halve channels and image."""
    layers: list[nn.Module] = [conv_bn(3, 24, 3, 2)]
    channels = 24
    for depth in (3, 3):
        layers += [DenseLayer(channels + 12 * i, 12) for i in range(depth)]
        channels += 12 * depth
        layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels // 2, 1)]
        layers.append(nn.AvgPool2d(2))
        channels //= 2
    return nn.Sequential(*layers, classifier(channels))


class Branches(nn.Module):
    """Parallel branches over one input, concatenated along the channels."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def squeezenet() -> nn.Module:
    """SqueezeNet: fire modules, ceil-mode pooling, a convolutional classifier."""

    def fire(channels: int, squeeze: int, expand: int) -> nn.Module:
        expansions = [
            nn.Sequential(nn.Conv2d(squeeze, expand, k, padding=k // 2), nn.ReLU()) for k in (1, 3)
        ]
        return nn.Sequential(nn.Conv2d(channels, squeeze, 1), nn.ReLU(), Branches(expansions))

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    body = [nn.Conv2d(3, 32, 3, 2), nn.ReLU(), pool(), fire(32, 8, 32), fire(64, 8, 32), pool()]
    head = [nn.Dropout(), nn.Conv2d(64, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*body, *head, nn.Flatten())


class ShuffleUnit(nn.Module):
    """ShuffleNetV2 unit: half of the channels pass by, then the halves are interleaved."""

    def __init__(self, channels: int, downsample: bool) -> None:
        super().__init__()
        half = channels if downsample else channels // 2
        stride = 2 if downsample else 1

        def tail() -> list[nn.Module]:
            return [conv_bn(half, half, 3, stride, half, act=None), conv_bn(half, half)]

        self.downsample = downsample
        self.right = nn.Sequential(conv_bn(half, half), *tail())
        self.left = nn.Sequential(*tail()) if downsample else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        left, right = (x, x) if self.downsample else x.chunk(2, dim=1)
        y = torch.cat((self.left(left), self.right(right)), dim=1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def shufflenet() -> nn.Module:
    """ShuffleNetV2: channel split and channel shuffle."""
    units = [ShuffleUnit(24, True), ShuffleUnit(48, False), ShuffleUnit(48, True)]
    return nn.Sequential(conv_bn(3, 24, 3, 2), *units, conv_bn(96, 64), classifier(64))


class ConvNeXtBlock(nn.Module):
    """7x7 depthwise convolution, LayerNorm over channels, a GELU MLP and a layer scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        self.scale = nn.Parameter(0.5 * torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).permute(0, 2, 3, 1)
        return x + (self.scale * self.mlp(self.norm(y))).permute(0, 3, 1, 2)


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6)
        return y.permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    """ConvNeXt: a patch stem, blocks, and a strided convolution between stages."""
    stem = [nn.Conv2d(3, 24, 4, 4), ChannelNorm(24)]
    down = [ChannelNorm(24), nn.Conv2d(24, 48, 2, 2)]
    blocks = [*stem, ConvNeXtBlock(24), ConvNeXtBlock(24), *down, ConvNeXtBlock(48)]
    return nn.Sequential(*blocks, ChannelNorm(48), classifier(48))


class UNet(nn.Module):
    """U-Net: skips by concatenation; one step up by transposed convolution, one by bilinear
    upsampling. (N, 3, H, W) -> (N, 2, H, W).
    """

    def __init__(self) -> None:
        super().__init__()

        def double(channels: int, out: int) -> nn.Module:
            return nn.Sequential(conv_bn(channels, out, 3), conv_bn(out, out, 3))

        self.down1, self.down2, self.bottom = double(3, 16), double(16, 32), double(32, 64)
        self.up2 = nn.ConvTranspose2d(64, 32, 2, stride=2)
        self.up1 = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), nn.Conv2d(32, 16, 1)
        )
        self.merge2, self.merge1 = double(64, 32), double(32, 16)
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip1 = self.down1(x)
        skip2 = self.down2(F.max_pool2d(skip1, 2))
        y = self.bottom(F.max_pool2d(skip2, 2))
        y = self.merge2(torch.cat([skip2, self.up2(y)], dim=1))
        return self.head(self.merge1(torch.cat([skip1, self.up1(y)], dim=1)))


def inception() -> nn.Module:
    """Inception: four branches, factorised 1x7 and 7x1 convolutions, average pooling that does
    not count the padding.
    """

    def block(channels: int) -> nn.Module:
        factorised = nn.Sequential(
            conv_bn(channels, 16),
            nn.Conv2d(16, 16, (1, 7), padding=(0, 3)),
            nn.ReLU(),
            nn.Conv2d(16, 16, (7, 1), padding=(3, 0)),
            nn.ReLU(),
        )
        pooled = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        return Branches(
            [
                conv_bn(channels, 16),
                factorised,
                nn.Sequential(conv_bn(channels, 16), conv_bn(16, 24, 3), conv_bn(24, 24, 3)),
                nn.Sequential(pooled, conv_bn(channels, 8)),
            ]
        )

    return nn.Sequential(
        conv_bn(3, 32, 3, 2), block(32), nn.MaxPool2d(3, 2), block(64), nn.Dropout(), classifier(64)
    )
