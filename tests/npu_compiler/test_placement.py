"""Concatenations whose parts are computed right in their places: no copies, right numbers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.npu_compiler.harness import Function, check, images, trained_like


class DenseBlock(nn.Module):
    """Layers that each join all that came before, as in DenseNet."""

    def __init__(self, channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels + growth * i) for i in range(layers))
        self.convs = nn.ModuleList(
            nn.Conv2d(channels + growth * i, growth, 3, padding=1, bias=False)
            for i in range(layers)
        )
        self.head = nn.Conv2d(channels + growth * layers, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [F.max_pool2d(self.stem(x), 2)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(F.relu(norm(torch.cat(features, 1)))))
        return self.head(F.relu(torch.cat(features, 1)))


class UNet(nn.Module):
    """Two levels with skip connections."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 20, 3, padding=1)
        self.down = nn.Conv2d(20, 30, 3, padding=1)
        self.bottom = nn.Conv2d(30, 40, 3, padding=1)
        self.up = nn.Conv2d(40 + 30, 30, 3, padding=1)
        self.leave = nn.Conv2d(30 + 20, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = F.relu(self.enter(x))
        second = F.relu(self.down(F.max_pool2d(first, 2)))
        third = F.relu(self.bottom(F.max_pool2d(second, 2)))
        second = torch.cat([_doubled(third), second], 1)
        first = torch.cat([_doubled(F.relu(self.up(second))), first], 1)
        return self.leave(first)


def _doubled(x: torch.Tensor) -> torch.Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.mark.parametrize(("channels", "growth"), [(64, 64), (24, 12), (64, 32)])
def test_a_dense_block_copies_nothing(channels: int, growth: int) -> None:
    module = trained_like(DenseBlock(channels, growth, 4))
    result = check(module, images(2, 3, 12, 12))
    assert result.copies == 0


def test_an_encoder_decoder_copies_nothing_to_concatenate() -> None:
    result = check(trained_like(UNet()), images(2, 3, 8, 8))
    # The upsampling itself repeats elements: one copy for each direction.
    names = [call.name for call in result.program.kernel_calls]
    assert not any("cat" in name and "padding" not in name for name in names)
    assert result.copies == 4


def test_parts_that_are_read_elsewhere_and_twice() -> None:
    def forward(m: Function, x: torch.Tensor) -> list[torch.Tensor]:
        a, b = F.conv2d(x, m.w), F.relu(x[:, :, 1:-1, 1:-1])
        joined = torch.cat([a, b, a], 1)
        return [joined * 2, a + 1, F.max_pool2d(a, 2), torch.cat([b, a], 1), torch.cat([b, b], 0)]

    check(Function(forward, w=images(20, 5, 3, 3)), images(2, 5, 8, 8))


def test_concatenations_of_concatenations() -> None:
    def forward(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        inner = torch.cat([x * 2, y + 1], 1)
        return torch.cat([y - 1, inner, torch.relu(x)], 1) * 3

    result = check(Function(forward), images(3, 5), images(3, 4))
    assert result.copies == 0


def test_the_concatenation_is_an_output() -> None:
    def forward(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        joined = torch.cat([torch.tanh(x), torch.relu(y)], 1)
        return joined, joined.sum(1)

    for shapes in (((3, 5), (3, 4)), ((2, 5, 3, 4), (2, 70, 3, 4))):
        result = check(Function(forward), *(images(*shape) for shape in shapes))
        # Row-major inputs of few channels are no images: they are brought to the output's layout.
        assert result.copies <= (0 if len(shapes[0]) == 2 else 1)


def test_a_part_that_is_an_output_is_copied() -> None:
    def forward(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a = torch.relu(x)
        return a, torch.cat([a, x * 2], 0) + 1

    assert check(Function(forward), images(3, 5)).copies == 1


def test_stacked_and_concatenated_matrix_products() -> None:
    def forward(m: Function, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a, b, c = F.linear(x, m.a), F.linear(x, m.b), x @ m.c
        return torch.stack([a * 2, a + 1], 1) * 2, torch.cat([a, b, c], -1) + 1

    tensors = {"a": images(6, 8), "b": images(4, 8, seed=1), "c": images(8, 3)}
    result = check(Function(forward, **tensors), images(2, 5, 8))
    assert result.copies == 0


def test_tokens_joined_along_the_middle() -> None:
    def forward(m: Function, x: torch.Tensor) -> torch.Tensor:
        first = m.token.expand(3, 1, 8)
        return torch.cat([first, F.linear(x, m.a)], 1) + 1

    check(Function(forward, token=images(1, 1, 8), a=images(8, 8)), images(3, 5, 8))


def test_rows_of_padded_images() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        a, b = F.max_pool2d(x, 1), F.max_pool2d(x, 2)
        return F.relu(torch.cat([torch.sigmoid(a), b.repeat_interleave(2, 3)], 2)) - 1

    check(Function(forward), images(2, 20, 4, 4))


def test_parts_of_other_dtypes_and_sizes() -> None:
    def forward(x: torch.Tensor, i: torch.Tensor) -> tuple[torch.Tensor, ...]:
        none = x[:, :0] * 2
        return torch.cat([none, x + 1, none], 1), torch.cat([i.bool(), i.bool()])

    check(Function(forward), images(2, 3), torch.tensor([1, 0, 2]))
