"""ResNets: torchvision's keys and sizes; trained-like weights and random images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from npu_sim import models
from npu_sim.models import random_images, trained_like

# Parameters as published for torchvision's models, and entries of their state dicts counted by
# hand: per convolution one, per BatchNorm five (num_batches_tracked among them), two for the
# classifier.
SIZES = {
    "resnet18": (11_689_512, 20 + 20 * 5 + 2),
    "resnet34": (21_797_672, 36 + 36 * 5 + 2),
    "resnet50": (25_557_032, 53 + 53 * 5 + 2),
    "resnet101": (44_549_160, 104 + 104 * 5 + 2),
    "resnet152": (60_192_808, 155 + 155 * 5 + 2),
}
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        model = getattr(models, name)()
    parameters, entries = SIZES[name]
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(model.state_dict()) == entries


def keys_of(blocks: tuple[int, ...], convolutions: int, expansion: int) -> list[str]:
    """torchvision's state_dict keys, spelt out from the architecture."""
    keys = ["conv1.weight", *(f"bn1.{k}" for k in NORM)]
    width = 64
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            prefix = f"layer{stage}.{block}."
            for k in range(1, convolutions + 1):
                keys += [f"{prefix}conv{k}.weight", *(f"{prefix}bn{k}.{n}" for n in NORM)]
            wide = 64 * 2 ** (stage - 1) * expansion
            if block == 0 and (stage > 1 or width != wide):
                keys += [f"{prefix}downsample.0.weight"]
                keys += [f"{prefix}downsample.1.{n}" for n in NORM]
            width = wide
    return [*keys, "fc.weight", "fc.bias"]


@pytest.mark.parametrize(
    ("name", "blocks", "convolutions", "expansion"),
    [
        ("resnet18", (2, 2, 2, 2), 2, 1),
        ("resnet34", (3, 4, 6, 3), 2, 1),
        ("resnet50", (3, 4, 6, 3), 3, 4),
        ("resnet101", (3, 4, 23, 3), 3, 4),
    ],
)
def test_keys_are_torchvisions(name, blocks, convolutions, expansion) -> None:
    with torch.device("meta"):
        model = getattr(models, name)()
    assert list(model.state_dict()) == keys_of(blocks, convolutions, expansion)


def test_the_stride_is_on_the_3x3_convolution() -> None:
    with torch.device("meta"):
        block = models.resnet50().layer2[0]
    assert [block.conv1.stride, block.conv2.stride, block.conv3.stride] == [(1, 1), (2, 2), (1, 1)]
    assert block.downsample[0].stride == (2, 2)


def test_shapes_through_the_network() -> None:
    model = models.resnet18(num_classes=7).eval()
    shapes = []
    for stage in (model.maxpool, model.layer1, model.layer2, model.layer3, model.layer4):
        stage.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    assert shapes == [(64, 16, 16), (64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]


def test_trained_like_statistics() -> None:
    model = trained_like(models.resnet18(), seed=3, calibration_images=4, image_size=64)
    assert not model.training
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean.abs().mean() > 1e-3
            assert (module.running_var > 0).all()
            assert module.running_var.std() > 0
            assert module.weight.std() > 0.05
            assert module.bias.std() > 0.05
    spread = []
    for block in (*model.layer1, *model.layer2, *model.layer3, *model.layer4):
        block.register_forward_hook(lambda _m, _i, out: spread.append(float(out.std())))
    with torch.no_grad():
        logits = model(random_images(6, 64, seed=9))
    assert all(0.2 < s < 4 for s in spread), spread
    assert 0.5 < float(logits.std()) < 8
    # Images differ in their best classes, and logits are not one vector plus noise.
    assert len({int(row.argmax()) for row in logits}) >= 3


def test_trained_like_is_reproducible() -> None:
    one, two, other = (
        trained_like(models.resnet18(10), seed, calibration_images=2, image_size=32).state_dict()
        for seed in (5, 5, 6)
    )
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not torch.equal(one["layer1.0.bn1.running_mean"], other["layer1.0.bn1.running_mean"])


def test_random_images() -> None:
    images = random_images(4, 48, seed=2)
    assert images.shape == (4, 3, 48, 48)
    torch.testing.assert_close(images[:2], random_images(2, 48, seed=2), rtol=0, atol=0)
    assert not torch.equal(images[0], images[1])
    assert 0.3 < float(images.std()) < 3
    # Neighbouring pixels are alike, as in photographs and unlike in noise.
    smooth = (images[..., 1:] - images[..., :-1]).std() / images.std()
    assert float(smooth) < 1
