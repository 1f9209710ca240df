"""The list of all families."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from . import cnn, media, mixtures, text
from .family import Family, Inputs


def _cnn(name: str, make: Callable[[], nn.Module], size: int = 64, fast: bool = False) -> Family:
    def build() -> tuple[nn.Module, Inputs]:
        return make(), (torch.randn(2, 3, size, size),)

    return Family(name, "cnn", make.__name__, build, fast=fast)


def _resnet18() -> nn.Module:
    from npu_sim.models import resnet18

    return resnet18()


CNN = [
    _cnn("VGG", cnn.vgg),
    Family("ResNet-18", "cnn", "resnet18", lambda: (_resnet18(), (torch.randn(1, 3, 64, 64),))),
    _cnn("ResNeXt", cnn.resnext),
    _cnn("MobileNetV2", cnn.mobilenet_v2),
    _cnn("MobileNetV3", cnn.mobilenet_v3, fast=True),
    _cnn("EfficientNet", cnn.efficientnet),
    _cnn("DenseNet", cnn.densenet),
    _cnn("SqueezeNet", cnn.squeezenet),
    _cnn("ShuffleNetV2", cnn.shufflenet, fast=True),
    _cnn("ConvNeXt", cnn.convnext),
    _cnn("U-Net", cnn.UNet, fast=True),
    _cnn("Inception", cnn.inception),
]

FAMILIES: list[Family] = [*CNN, *text.FAMILIES, *mixtures.FAMILIES, *media.FAMILIES]
