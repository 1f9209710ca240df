"""Tensors and arguments for operator calls, from a Draw: fresh ones, or ones that are in a graph.

A fresh tensor reaches its operator in one of several ways: as a graph input, as a weight, or
through view operators that leave it permuted, strided, broadcast or in the padded image layout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch

from npu_compiler.ops.record import OpRecord
from tests.fuzz.builder import Builder, RejectedError, Value
from tests.fuzz.draw import Draw

FLOATS = ("float32", "float16", "bfloat16")
INTEGERS = ("int64", "int32", "int16", "int8", "uint8")
Shape = tuple[int, ...]
# Sizes that are neither powers of two nor alike; now and then more than a SIMD register.
SIZES = (1, 2, 3, 4, 5, 7, 19)
CHANNELS = (1, 3, 8, 20, 64, 70)


class Sampler:
    """Draws the arguments of a call of ``record``'s operator."""

    def __init__(self, draw: Draw, builder: Builder, record: OpRecord, float_dtype: str) -> None:
        self.draw = draw
        self.builder = builder
        self.record = record
        self.float_dtype = float_dtype
        # Whether NaN, infinities and zeros may be among the values.
        self.special = False
        # Whether weights may stand where tensors do.
        self.weights = True

    # Choices.

    def integer(self, low: int, high: int) -> int:
        """An integer, both ends included."""
        return self.draw.integer(low, high)

    def pick(self, items: Sequence[Any]) -> Any:
        """One of ``items``."""
        return self.draw.pick(items)

    def chance(self, percent: int = 50) -> bool:
        """True in so many of a hundred cases."""
        return self.draw.chance(percent)

    def dim(self, rank: int) -> int:
        """A dimension, counted from either end."""
        if rank == 0:
            return self.integer(-1, 0)
        return self.integer(-rank, rank - 1)

    def dims(self, rank: int, *, least: int = 0) -> list[int]:
        """Distinct dimensions in any order, some counted from the end."""
        left = list(range(rank))
        found = []
        for _ in range(self.integer(min(least, rank), rank)):
            d = left.pop(self.integer(0, len(left) - 1))
            found.append(d - rank if self.chance() else d)
        return found

    def number(self, dtype: str) -> float | int:
        """A number that goes with a tensor of ``dtype``."""
        if "float" in dtype:
            return self.pick([2.0, 1.0, 0.5, -1.5, 0.0, 3, -0.3, 7.25])
        return self.pick([2, 1, 0, 3, -1, 5])

    # Tensors.

    def dtypes(self, allowed: Sequence[str] | None = None) -> list[str]:
        """Dtypes that the record claims, the model's float dtype for all floats."""
        claimed = [d for d in (self.float_dtype, *INTEGERS, "bool") if d in self.record.dtypes]
        return claimed if allowed is None else [d for d in claimed if d in allowed]

    def dtype(self, allowed: Sequence[str] | None = None) -> str:
        """A dtype for the first operand: mostly the float one."""
        found = self.dtypes(allowed)
        if not found:
            raise RejectedError(f"none of {allowed} is claimed")
        if found[0] == self.float_dtype and len(found) > 1 and not self.chance(30):
            return found[0]
        return str(self.pick(found))

    def shape(self, rank: int) -> Shape:
        """Small sizes; 4-D ones are mostly images with channels around the alignment."""
        if rank == 4 and self.chance(60):
            return (self.integer(1, 2), self.pick(CHANNELS), self.pick(SIZES), self.pick(SIZES))
        sizes = [self.pick(SIZES) for _ in range(rank)]
        if rank and self.chance(3):
            sizes[self.integer(0, rank - 1)] = 0
        return tuple(sizes)

    def tensor(
        self,
        ranks: tuple[int, int] | int = (0, 4),
        dtype: str | Sequence[str] | None = None,
        *,
        matches: Callable[[Shape], bool] = lambda _: True,
        shape: Callable[[int], Shape] | None = None,
        kind: str = "normal",
    ) -> Value:
        """A tensor of a rank and dtype; ``matches`` says which shapes will do, ``shape`` makes
        one."""
        low, high = (ranks, ranks) if isinstance(ranks, int) else ranks
        wanted = self.dtype() if dtype is None else dtype
        if not isinstance(wanted, str):
            wanted = self.dtype(wanted)
        rank = self.integer(low, high)
        made = (shape or self.shape)(rank)
        if not matches(made):
            raise RejectedError(f"{list(made)} does not match")
        return self.fresh(made, wanted, kind)

    def float(self, ranks: tuple[int, int] | int = (0, 4), **options: Any) -> Value:
        """A tensor of the model's float dtype."""
        return self.tensor(ranks, self.float_dtype, **options)

    def broadcast(self, other: Value, dtypes: Sequence[str] | None = None) -> Value:
        """A tensor that broadcasts with ``other``, mostly of its dtype."""
        dtype = other.dtype
        if dtypes is not None or self.chance(10):
            dtype = self.dtype(dtypes)
        return self.fresh(self.broadcast_shape(other.shape), dtype)

    def broadcast_shape(self, shape: Shape) -> Shape:
        """``shape`` with dimensions dropped in front or shrunk to 1."""
        if self.chance(50):
            return shape
        cut = self.integer(0, len(shape)) if self.chance(40) else 0
        return tuple(1 if self.chance(30) else n for n in shape[cut:])

    def fresh(self, shape: Shape, dtype: str | None = None, kind: str = "normal") -> Value:
        """A new tensor of a shape, in one of the ways that tensors come."""
        tensor = self.values(shape, dtype or self.float_dtype, kind)
        way = self.integer(0, 9)
        rank = len(shape)
        if way == 1 and rank >= 2:
            order = torch.randperm(rank, generator=self._generator()).tolist()
            back = [order.index(d) for d in range(rank)]
            source = self._leaf(tensor.permute(order).contiguous())
            return self._view("aten.permute.default", source, back)
        if way == 2 and rank >= 1:
            return self._sliced(tensor)
        if way == 3 and 1 in shape[:1] and rank >= 1:
            return self._view("aten.unsqueeze.default", self._leaf(tensor[0].contiguous()), 0)
        if way == 4 and rank >= 1 and shape[0] > 1 and kind == "normal":
            source = self._leaf(tensor[:1].contiguous())
            return self._view("aten.expand.default", source, list(shape))
        if way in (5, 6) and rank == 4 and dtype in FLOATS and 0 not in shape:
            # A pooling window of one element: channels_last with padded channels.
            return self._view("aten.max_pool2d.default", self._leaf(tensor), [1, 1])
        return self._leaf(tensor)

    def _sliced(self, tensor: torch.Tensor) -> Value:
        dim = self.integer(0, tensor.dim() - 1)
        step, start = self.integer(1, 2), self.integer(0, 2)
        size = list(tensor.shape)
        end = start + max(0, (size[dim] - 1) * step + 1)
        size[dim] = end + self.integer(0, 1)
        if tensor.shape[dim] == 0:
            return self._leaf(tensor)
        source = torch.zeros(size, dtype=tensor.dtype)
        picked = [slice(None)] * tensor.dim()
        picked[dim] = slice(start, end, step)
        source[tuple(picked)] = tensor
        return self._view("aten.slice.Tensor", self._leaf(source), dim, start, end, step)

    def _view(self, op_type: str, source: Value, *args: Any) -> Value:
        (value,) = self.builder.call(op_type, [source, *args], {})
        value.exact = source.exact
        return value

    def _leaf(self, tensor: torch.Tensor) -> Value:
        if self.weights and self.chance(25):
            return self.builder.weight(tensor)
        return self.builder.input(tensor)

    def leaf(self, tensor: torch.Tensor) -> Value:
        """A given tensor as an input or a weight."""
        return self._leaf(tensor)

    def weight(self, shape: Shape, kind: str = "normal", dtype: str | None = None) -> Value:
        """A weight."""
        return self.builder.weight(self.values(shape, dtype or self.float_dtype, kind))

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.integer(0, 9999))

    def values(self, shape: Shape, dtype: str, kind: str = "normal") -> torch.Tensor:
        """Values of a kind: normal, positive, unit (0 to 1), distinct; floats are rounded to
        float16 and bfloat16 alike, so that every storage dtype holds them."""
        generator = self._generator()
        if dtype == "bool":
            return torch.rand(shape, generator=generator) < 0.5
        target = getattr(torch, dtype)
        if kind == "distinct":
            order = torch.randperm(prod(shape), generator=generator)[: prod(shape)]
            return (order - prod(shape) // 2).reshape(shape).to(target)
        if "int" in dtype:
            low = 0 if dtype == "uint8" or kind == "positive" else -6
            return torch.randint(low, 9, shape, generator=generator, dtype=target)
        values = torch.randn(shape, generator=generator)
        if kind == "positive":
            values = values.abs() + 0.25
        elif kind == "unit":
            values = torch.rand(shape, generator=generator)
        if self.special and kind == "normal" and values.numel() and self.chance(25):
            picks = torch.randint(0, values.numel(), (4,), generator=generator)
            values.view(-1)[picks] = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0])
        return values.to(torch.bfloat16).to(torch.float16).to(target)

    def indices(self, shape: Shape, size: int, dtype: str = "int64") -> Value:
        """Indices into a dimension of ``size``, all in range."""
        if size == 0:
            raise RejectedError("no index fits an empty dimension")
        values = torch.randint(0, size, shape, generator=self._generator(), dtype=torch.int64)
        return self.builder.input(values.to(getattr(torch, dtype)))
