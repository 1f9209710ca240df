"""Random convolutions, poolings and elementwise chains against PyTorch, from hand-made IRs (quick:
no torch.export).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import npu_compiler
from tests.npu_compiler.harness import (
    DEVICES,
    TOLERANCE,
    compare,
    execute,
    images,
    open_device,
    with_orders,
)
from tests.npu_compiler.ir_builder import IRBuilder

QUICK = settings(max_examples=60, deadline=None, derandomize=True)
SIDES = st.integers(1, 9)
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


def _check(
    ir: dict[str, Any],
    inputs: dict[str, np.ndarray],
    state: dict[str, np.ndarray],
    expected: torch.Tensor,
) -> None:
    """The only output of ``ir`` on every device."""
    program = npu_compiler.compile(ir, compute_dtype="float32")
    for kind in with_orders(program, DEVICES):
        (output,) = execute(program, inputs, state, open_device(kind))
        compare(output, expected.numpy(), TOLERANCE["float32"])


@QUICK
@given(
    n=st.integers(1, 3),
    groups=st.sampled_from([1, 1, 2, 5, 20]),
    ic=st.sampled_from([1, 3, 4]),
    oc=st.sampled_from([1, 2, 16]),
    size=st.tuples(SIDES, SIDES),
    kernel=PAIRS,
    stride=PAIRS,
    dilation=PAIRS,
    padding=st.one_of(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.just("same")),
    bias=st.booleans(),
    pooled=st.booleans(),
    low=st.sampled_from([None, 0.0, 0.5]),
    residual=st.booleans(),
)
def test_convolution(
    n: int,
    groups: int,
    ic: int,
    oc: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: Any,
    bias: bool,
    pooled: bool,
    low: float | None,
    residual: bool,
) -> None:
    """``pooled``: the input comes from a pooling layer, so it is channels_last with padded
    channels.
    """
    stride = (1, 1) if padding == "same" else stride
    x, w = images(n, ic * groups, *size), images(oc * groups, ic, *kernel, seed=1)
    b = images(oc * groups, seed=2) if bias else None
    try:
        y = F.conv2d(
            x, w, b, stride, padding if padding == "same" else list(padding), dilation, groups
        )
    except RuntimeError:
        return
    if 0 in y.shape:
        return
    g = IRBuilder()
    value = g.input("x", *x.shape)
    if pooled:
        value = g.node(
            "pool", "aten.max_pool2d.default", [value], list(x.shape), kernel_size=[1, 1]
        )
    weights = [g.weight("w", *w.shape)] + ([g.weight("b", oc * groups)] if bias else [])
    attrs = {
        "stride": list(stride),
        "padding": padding if padding == "same" else list(padding),
        "dilation": list(dilation),
        "groups": groups,
    }
    op = "aten.conv2d.padding" if padding == "same" else "aten.conv2d.default"
    value = g.node("conv", op, [value, *weights], list(y.shape), **attrs)
    inputs = {"x": x.numpy()}
    if residual:
        r = images(*y.shape, seed=3)
        inputs["r"] = r.numpy()
        value = g.node("add", "aten.add.Tensor", [value, g.input("r", *y.shape)], list(y.shape))
        y = y + r
    if low is not None:
        value = g.node("clamp", "aten.clamp.default", [value], list(y.shape), min=low)
        y = y.clamp(min=low)
    state = {"w": w.numpy()} | ({"b": b.numpy()} if b is not None else {})
    _check(g.output(value), inputs, state, y)


@QUICK
@given(
    average=st.booleans(),
    channels=st.sampled_from([1, 5, 20, 64]),
    size=st.tuples(SIDES, SIDES),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=PAIRS,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=PAIRS,
    ceil_mode=st.booleans(),
    include=st.booleans(),
)
def test_pooling(
    average: bool,
    channels: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    ceil_mode: bool,
    include: bool,
) -> None:
    x = images(2, channels, *size)
    attrs: dict[str, Any] = {
        "kernel_size": list(kernel),
        "stride": list(stride),
        "padding": list(padding),
        "ceil_mode": ceil_mode,
    }
    attrs |= {"count_include_pad": include} if average else {"dilation": list(dilation)}
    function: Callable[..., torch.Tensor] = F.avg_pool2d if average else F.max_pool2d
    try:
        y = function(x, **attrs)
    except RuntimeError:
        return
    g = IRBuilder()
    op = "aten.avg_pool2d.default" if average else "aten.max_pool2d.default"
    ir = g.output(g.node("pool", op, [g.input("x", *x.shape)], list(y.shape), **attrs))
    _check(ir, {"x": x.numpy()}, {}, y)


_UNARY: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "neg": torch.neg,
    "hardswish": F.hardswish,
    "square": torch.square,
}
_BINARY: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "maximum": torch.maximum,
}


@QUICK
@given(
    shape=st.sampled_from([(2, 5, 3, 4), (2, 20, 3, 4), (1, 1, 3, 4), (3, 4), (), (2, 0, 3, 4)]),
    drops=st.lists(st.integers(0, 3), max_size=3),
    steps=st.lists(
        st.tuples(st.sampled_from([*_UNARY, *_BINARY]), st.integers(0, 9), st.integers(0, 9)),
        min_size=1,
        max_size=12,
    ),
)
def test_elementwise_graphs(
    shape: tuple[int, ...], drops: list[int], steps: list[tuple[str, int, int]]
) -> None:
    """Random graphs over inputs whose dimensions are partly 1; every result may be used again."""
    g = IRBuilder()
    names, tensors, inputs = [], [], {}
    for i, drop in enumerate([9, *drops]):
        own = tuple(1 if d == drop else n for d, n in enumerate(shape))
        tensors.append(images(*own, seed=i))
        names.append(g.input(f"x{i}", *own))
        inputs[f"x{i}"] = tensors[-1].numpy()
    for i, (op, first, second) in enumerate(steps):
        a, b = first % len(names), second % len(names)
        kind = {"add": "Tensor", "sub": "Tensor", "mul": "Tensor"}.get(op, "default")
        if op in _UNARY:
            tensors.append(_UNARY[op](tensors[a]))
            read = [names[a]]
        else:
            tensors.append(_BINARY[op](tensors[a], tensors[b]))
            read = [names[a], names[b]]
        names.append(g.node(f"n{i}", f"aten.{op}.{kind}", read, list(tensors[-1].shape)))
    expected = tensors[-1]
    if np.abs(expected.numpy()).max(initial=0) > 1e6:
        return
    _check(g.output(names[-1]), inputs, {}, expected)
