"""Where random choices come from: hypothesis (which shrinks them) or a seeded generator."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Draw(ABC):
    """A source of choices; smaller numbers and earlier items are the simpler ones."""

    @abstractmethod
    def integer(self, low: int, high: int) -> int:
        """An integer, both ends included."""

    def pick(self, items: Sequence[T]) -> T:
        """One of ``items``."""
        return items[self.integer(0, len(items) - 1)]

    def chance(self, percent: int) -> bool:
        """True in about ``percent`` of a hundred cases; False is the simpler one."""
        return self.integer(0, 99) >= 100 - percent


class RandomDraw(Draw):
    """Choices of a seeded generator."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return self._random.randint(low, high)


class HypothesisDraw(Draw):
    """Choices of a hypothesis test."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def integer(self, low: int, high: int) -> int:
        return self._data.draw(st.integers(low, high))
