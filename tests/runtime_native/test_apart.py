"""A dispatch may read and write one buffer where no element is shared, and nowhere else."""

from __future__ import annotations

import itertools
import random

import pytest

from npu_compiler.kernels.scalar_ops import LOAD, STORE, Instruction
from npu_compiler.program.schema import NONE
from npu_runtime import _native
from npu_runtime.errors import ProgramError
from tests.runtime_native.npubin_builder import Builder
from tests.runtime_native.toy_program import elementwise_fields

SIZE = 64
COPY = elementwise_fields(Instruction(LOAD, 0, a=0), Instruction(STORE, 0, a=0))
View = tuple[int, tuple[int, ...]]


def program(shape: tuple[int, ...], source: View, target: View) -> bytes:
    """Copies an input to an arena buffer, one part of that over another, and it to the output."""
    b = Builder()
    x = b.tensor("x", b.buffer("x", "input", 4 * SIZE), (SIZE,))
    a = b.tensor("a", b.buffer("a", "arena", 4 * SIZE, last_use=2), (SIZE,))
    y = b.tensor("y", b.buffer("y", "output", 4 * SIZE), (SIZE,))
    flat = (1, 1, 1, 1, 1, SIZE)
    six = (1,) * (6 - len(shape)) + shape

    def part(view: View) -> dict[str, object]:
        offset, strides = view
        found = dict(b.view(a, six))
        found["offset"] = 4 * offset
        found["strides"] = (0,) * (6 - len(shape)) + strides
        return found

    b.dispatch("in", "elementwise", {"in0": b.view(x, flat), "out0": b.view(a, flat)}, COPY)
    b.dispatch("move", "elementwise", {"in0": part(source), "out0": part(target)}, COPY)
    b.dispatch("out", "elementwise", {"in0": b.view(a, flat), "out0": b.view(y, flat)}, COPY)
    b.add("IOS", name="x", tensor=x, donor=NONE)
    b.add("IOS", name="y", tensor=y, donor=NONE)
    b.add(
        "ENTRY_POINTS",
        name="main",
        dispatch_first=0,
        dispatch_count=3,
        input_first=0,
        input_count=1,
        output_first=1,
        output_count=1,
        arena_size=4 * SIZE,
    )
    return b.build()


def elements(shape: tuple[int, ...], view: View) -> list[int]:
    offset, strides = view
    places = itertools.product(*(range(n) for n in shape))
    return [offset + sum(i * s for i, s in zip(at, strides, strict=True)) for at in places]


def accepted(shape: tuple[int, ...], source: View, target: View) -> bool:
    try:
        _native.Program.from_bytes(program(shape, source, target))
    except ProgramError as error:
        assert "writes over operand" in str(error) or "share memory" in str(error)
        return False
    return True


@pytest.mark.parametrize(
    ("shape", "source", "target"),
    [
        ((4, 2), (0, (8, 1)), (4, (8, 1))),  # columns of a matrix
        ((2, 3, 2), (0, (32, 8, 1)), (2, (32, 8, 1))),
        ((4, 5), (3, (10, 1)), (8, (10, 1))),  # halves of rows that begin anywhere
        ((8,), (0, (2,)), (1, (2,))),  # every other element
        ((4, 2), (0, (1, 4)), (16, (8, 1))),  # one behind the other
    ],
)
def test_parts_side_by_side_are_apart(shape: tuple[int, ...], source: View, target: View) -> None:
    assert accepted(shape, source, target)


def test_what_is_accepted_shares_no_element() -> None:
    draw = random.Random(7)
    accepted_count = 0
    for _ in range(600):
        shape = tuple(draw.choice((1, 2, 3)) for _ in range(draw.choice((1, 2, 3))))

        def view(shape: tuple[int, ...] = shape) -> View:
            strides = tuple(draw.choice((1, 2, 3, 4, 6, 8, 12)) for _ in shape)
            span = sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
            return draw.randrange(SIZE - span), strides

        source, target = view(), view()
        if accepted(shape, source, target):
            accepted_count += 1
            read, written = elements(shape, source), elements(shape, target)
            assert not set(read) & set(written) or read == written, (shape, source, target)
    assert 50 < accepted_count < 600
