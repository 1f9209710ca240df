"""Cases of products and convolutions with an activation in the same dispatch; see op_cases.py."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from tests.npu_compiler.harness import images
from tests.npu_compiler.op_cases import case

FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda v: F.gelu(v, approximate="tanh"),
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
}
SPECIAL = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 100.0, -100.0, 1.0])


def _products(name: str, f: Callable[[torch.Tensor], torch.Tensor]) -> None:
    weights = {"w": images(7, 5), "b": images(7)}
    case(f"linear_{name}", lambda m, x: f(F.linear(x, m.w, m.b)), (2, 3, 5), **weights)
    case(f"linear_{name}_vector", lambda m, x: f(F.linear(x, m.w)), (5,), w=images(7, 5))
    case(f"linear_{name}_column", lambda m, x: f(F.linear(x, m.w)), (9, 5), w=images(1, 5))
    case(f"linear_{name}_residual", lambda m, x, r: f(F.linear(x, m.w, m.b) + r), (4, 5), (4, 7),
         **weights)  # fmt: skip
    case(f"mm_{name}", lambda a, b: f(torch.mm(a, b)), (20, 6), (6, 40))
    # PyTorch's own gelu(inf) is NaN or inf, depending on the library that computes it.
    special = SPECIAL[3:, None] if name == "gelu" else SPECIAL[:, None]
    case(f"mm_{name}_special", lambda m, a: f(torch.mm(a, m.w)), special,
         w=torch.ones(1, 3))  # fmt: skip
    case(f"mv_{name}", lambda a, v: f(torch.matmul(a, v)), (33, 6), (6,))
    case(f"bmm_{name}", lambda a, b: f(torch.bmm(a, b).transpose(1, 2)), (2, 5, 6), (2, 6, 3))
    case(f"addmm_{name}", lambda m, a, b: f(torch.addmm(m.b, a, b)), (4, 5), (5, 7), b=images(7))
    case(f"addmm_{name}_matrix", lambda s, a, b: f(torch.addmm(s, a, b)), (4, 7), (4, 5), (5, 7))
    case(f"addmm_{name}_scaled", lambda s, a, b: f(torch.addmm(s, a, b, alpha=2)), (4, 7), (4, 5),
         (5, 7))  # fmt: skip


def _convolutions(name: str, f: Callable[[torch.Tensor], torch.Tensor]) -> None:
    one = {"w": images(20, 20, 3, 3, scale=0.2), "b": images(20)}
    case(f"conv2d_{name}", lambda m, x: f(F.conv2d(x, m.w, m.b, padding=1)) * 2, (2, 20, 6, 7),
         **one)  # fmt: skip
    case(f"conv2d_{name}_depthwise", lambda m, x: f(F.conv2d(x, m.w, groups=20)), (2, 20, 6, 7),
         w=images(20, 1, 3, 3))  # fmt: skip
    case(f"conv2d_{name}_groups", lambda m, x: f(F.conv2d(x, m.w, groups=2)), (2, 20, 6, 7),
         w=images(10, 10, 1, 3))  # fmt: skip
    case(f"conv1d_{name}", lambda m, x: f(F.conv1d(x, m.w, m.b)), (2, 3, 9), w=images(5, 3, 3),
         b=images(5))  # fmt: skip
    # Some results that no tap reaches: the activation of the bias.
    case(f"conv_transpose2d_{name}", lambda m, x: f(F.conv_transpose2d(x, m.w, m.b, stride=3)),
         (2, 20, 4, 3), w=images(20, 5, 2, 2), b=images(5))  # fmt: skip
    case(f"conv_transpose1d_{name}", lambda m, x: f(F.conv_transpose1d(x, m.w, stride=2)),
         (2, 3, 5), w=images(3, 4, 3))  # fmt: skip


for _name, _function in FUNCTIONS.items():
    _products(_name, _function)
    _convolutions(_name, _function)
