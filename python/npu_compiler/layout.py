"""Physical layouts: where the elements of a tensor lie in memory, and how much of it is padding.

4-D activations are channels_last with channels padded to the target's alignment; 4-D inputs of few
channels stay in NCHW planes. Everything else is row_major without padding. Shapes are always in
logical (NCHW) order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npu_compiler.target import TargetConfig
from npu_compiler.view import contiguous_strides


@dataclass(frozen=True, slots=True)
class Layout:
    """``name`` of program.schema.LAYOUTS, allocated shape and strides in elements."""

    name: str
    alloc_shape: tuple[int, ...]
    strides: tuple[int, ...]


def padded_channels(channels: int, target: TargetConfig) -> int:
    """``channels`` rounded up to the target's alignment."""
    alignment = target.channel_alignment
    return -(-channels // alignment) * alignment


def row_major(shape: Sequence[int]) -> Layout:
    """Contiguous, unpadded."""
    return Layout("row_major", tuple(shape), contiguous_strides(shape))


def channels_last(shape: Sequence[int], target: TargetConfig) -> Layout:
    """NHWC with padded channels, for a 4-D shape."""
    n, c, h, w = shape
    padded = padded_channels(c, target)
    step = max(padded, 1)
    alloc = (n, padded, h, w)
    return Layout("channels_last", alloc, (max(h, 1) * max(w, 1) * step, 1, max(w, 1) * step, step))


def input_layout(shape: Sequence[int], target: TargetConfig) -> Layout:
    """Layout of a graph input."""
    if len(shape) == 4 and shape[1] <= target.row_major_input_channels:
        n, c, h, w = shape
        alloc = (n, padded_channels(c, target), h, w)
        return Layout("row_major", alloc, contiguous_strides(alloc))
    return activation_layout(shape, target)


def activation_layout(shape: Sequence[int], target: TargetConfig) -> Layout:
    """Layout of a graph output and of an image between image ops."""
    return channels_last(shape, target) if len(shape) == 4 else row_major(shape)


def transform_steps(
    ir_dtype: str, dtype: str, shape: Sequence[int], alloc_shape: Sequence[int], layout: str
) -> tuple[dict[str, object], ...]:
    """How the user's row-major array of ``ir_dtype`` becomes what lies in memory: cast, pad,
    permute.
    """
    steps: list[dict[str, object]] = []
    if ir_dtype != dtype:
        steps.append({"op": "cast", "dtype": dtype})
    if tuple(shape) != tuple(alloc_shape):
        steps.append({"op": "pad", "shape": list(alloc_shape)})
    if layout == "channels_last":
        steps.append({"op": "permute", "axes": [0, 2, 3, 1]})
    return tuple(steps)
