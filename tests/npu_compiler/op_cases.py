"""One or more cases for every op record: a function and its inputs. Sizes are no multiples of 64,
batches over 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from tests.npu_compiler.harness import Function, images

aten = torch.ops.aten


@dataclass(frozen=True)
class Case:
    """``function`` of the inputs (and of the module, for its buffers, if there are any)."""

    name: str
    function: Callable[..., Any]
    inputs: tuple[torch.Tensor, ...]
    buffers: tuple[tuple[str, torch.Tensor], ...] = ()

    def module(self) -> Function:
        return Function(self.function, **dict(self.buffers))


CASES: list[Case] = []


def case(name: str, function: Callable[..., Any], *shapes: Any, **buffers: torch.Tensor) -> None:
    """Add a case; a shape stands for normally distributed values."""
    inputs = tuple(
        s if isinstance(s, torch.Tensor) else images(*s, seed=i) for i, s in enumerate(shapes)
    )
    CASES.append(Case(name, function, inputs, tuple(buffers.items())))


X = (2, 5, 6, 7)
ROW = (3, 10)
SPECIAL = torch.tensor([[0.0, -0.0, 1.5, -2.5, float("nan"), float("inf"), -float("inf"), 9.0]])


def _unary() -> None:
    functions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "relu": aten.relu.default,
        "relu6": aten.relu6.default,
        "hardtanh": lambda x: F.hardtanh(x, -0.7, 0.4),
        "clamp": lambda x: torch.clamp(x, -0.5, 0.25),
        "clamp_only_max": lambda x: torch.clamp(x, max=0.25),
        "clamp_only_min": lambda x: torch.clamp(x, min=0.25),
        "clamp_crossed": lambda x: torch.clamp(x, 1.0, -1.0),
        "clamp_min": lambda x: aten.clamp_min.default(x, 0.5),
        "clamp_max": lambda x: aten.clamp_max.default(x, 0.5),
        "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "silu": F.silu,
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "hardswish": F.hardswish,
        "hardsigmoid": F.hardsigmoid,
        "elu": lambda x: F.elu(x, 0.7),
        "selu_like": lambda x: aten.elu.default(x, 1.67, 1.05, 0.9),
        "mish": F.mish,
        "softplus": lambda x: F.softplus(x, 2.0, 1.0),
        "neg": torch.neg,
        "abs": torch.abs,
        "exp": torch.exp,
        "erf": torch.erf,
        "square": torch.square,
        "add_scalar": lambda x: x + 1.5,
        "add_scalar_overload": lambda x: aten.add.Scalar(x, 1.5, 2),
        "sub_scalar": lambda x: aten.sub.Scalar(x, 1.5, 2),
        "sub_number": lambda x: x - 3,
        "rsub": lambda x: 2 - x,
        "rsub_overload": lambda x: aten.rsub.Scalar(x, 2.0, 3.0),
        "mul_scalar": lambda x: x * 0.3,
        "mul_scalar_overload": lambda x: aten.mul.Scalar(x, 0.3),
        "div_scalar": lambda x: x / 3,
        "div_scalar_overload": lambda x: aten.div.Scalar(x, 3.0),
        "div_scalar_mode": lambda x: aten.div.Scalar_mode(x, 3.0, rounding_mode=None),
        **{f"pow_{e}": (lambda x, e=e: torch.pow(x, e)) for e in (0, 1, 2, 3, 4, -1, -2)},
        "identities": lambda x: aten.alias.default(x.contiguous().detach().clone()) * 2,
        "lift": lambda x: aten.lift_fresh_copy.default(x) + 1,
        "dropout": lambda x: F.dropout(x, 0.5, False) + 1,
        "feature_dropout": lambda x: F.dropout2d(x, 0.5, False) + 1,
        "alpha_dropout": lambda x: F.alpha_dropout(x, 0.5, False) + 1,
    }
    for name, function in functions.items():
        case(name, function, X)
        # PyTorch's own gelu(inf) is NaN or inf, depending on the library that computes it.
        if name not in ("feature_dropout", "gelu"):
            case(f"{name}_special", function, SPECIAL)
    positive = images(*X).abs() + 0.1
    for name, function in {
        "log": torch.log,
        "sqrt": torch.sqrt,
        "rsqrt": torch.rsqrt,
        "reciprocal": torch.reciprocal,
        "pow_half": lambda x: x**0.5,
        "pow_minus_half": lambda x: x**-0.5,
    }.items():
        case(name, function, positive)
        case(f"{name}_special", function, SPECIAL)


def _prelu() -> None:
    for name, shape in {"image": (2, 5, 6, 7), "wide": (2, 70, 3, 3), "row": (4, 5)}.items():
        channels = shape[1]
        case(f"prelu_{name}", lambda m, x: F.prelu(x, m.w), shape, w=images(channels))
        case(f"prelu_{name}_one", lambda m, x: F.prelu(x, m.w), shape, w=images(1))
        case(f"prelu_{name}_dynamic", F.prelu, shape, (channels,))
    case("prelu_vector", lambda m, x: F.prelu(x, m.w), (5,), w=images(1))


def _binary() -> None:
    functions: dict[str, Callable[..., torch.Tensor]] = {
        "add": torch.add,
        "add_alpha": lambda a, b: torch.add(a, b, alpha=2),
        "sub": torch.sub,
        "sub_alpha": lambda a, b: torch.sub(a, b, alpha=0.5),
        "rsub_tensor": lambda a, b: aten.rsub.Tensor(a, b, alpha=3),
        "mul": torch.mul,
        "div": torch.div,
        "true_divide": aten.true_divide.Tensor,
        "div_mode_none": lambda a, b: aten.div.Tensor_mode(a, b, rounding_mode=None),
        "maximum": torch.maximum,
        "minimum": torch.minimum,
        "max_other": aten.max.other,
        "min_other": aten.min.other,
        "eq": lambda a, b: torch.eq(a, b),
        "ne": lambda a, b: torch.ne(a, b),
        "lt": lambda a, b: a < b,
        "le": lambda a, b: a <= b,
        "gt": lambda a, b: a > b,
        "ge": lambda a, b: a >= b,
    }
    shapes: dict[str, tuple[Sequence[int], Sequence[int]]] = {
        "same": (X, X),
        "channel": (X, (5, 1, 1)),
        "channel_first": ((1, 5, 1, 1), X),
        "row": (X, (7,)),
        "scalar": (X, ()),
        "outer": ((2, 1, 6, 1), (1, 5, 1, 7)),
        "batch": ((1, 5, 6, 7), (2, 1, 6, 7)),
        "flat": (ROW, ROW),
    }
    for name, function in functions.items():
        for kind in shapes if name in ("add", "mul", "sub_alpha") else ("same", "channel"):
            case(f"{name}_{kind}", function, *shapes[kind])
    special = SPECIAL.reshape(-1, 1).expand(8, 8)
    for name in ("add", "mul", "div", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge"):
        case(f"{name}_special", functions[name], special, special.t().contiguous())
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        overload = getattr(aten, name).Scalar
        case(f"{name}_scalar", lambda x, f=overload: f(x, 0.25), SPECIAL)


def _select() -> None:
    case("where", lambda a, b: torch.where(a > b, a, b * 2), X, X)
    case("where_broadcast", lambda a, b: torch.where(a > 0, b, a), X, (5, 1, 1))
    case("where_scalar", lambda a: torch.where(a > 0, a, 0.0), X)
    case("where_scalars", lambda a: torch.where(a > 0, 1.0, -2.0), X)
    case("where_overloads", lambda a: aten.where.ScalarSelf(a > 0, 3.0, a), X)
    case("where_overload_other", lambda a: aten.where.ScalarOther(a > 0, a, 3.0), X)
    case("where_overload_scalar", lambda a: aten.where.Scalar(a > 0, 1.5, 3.0), X)
    case("masked_fill", lambda a, b: a.masked_fill(b > 0, float("-inf")), X, X)
    case("masked_fill_tensor", lambda a, b: aten.masked_fill.Tensor(a, b > 0, a.sum()), X, X)
    case("logical_not", lambda a: torch.logical_not(a), X)
    case("logical", lambda a, b: torch.logical_or(torch.logical_and(a > 0, b > 0), a > 1), X, X)
    case("logical_xor", lambda a, b: torch.logical_xor(a > 0, b > 0), X, X)
    case("bitwise", lambda a, b: ~((a > 0) & (b > 0)) | (a < -1), X, X)
    for op in ("and", "or", "xor"):
        overload = getattr(aten, f"bitwise_{op}").Tensor
        case(f"bitwise_{op}_overload", lambda a, b, f=overload: f(a > 0, b > 0), X, X)
    case("xor", lambda a, b: (a > 0) ^ (b > 0), X, X)
    case("bool_times_float", lambda a, b: (a > 0) * b, X, X)
    case("clamp_tensor", lambda a, b: torch.clamp(a, b, b + 1), X, (5, 1, 1))
    case("clamp_tensor_max", lambda a, b: torch.clamp(a, max=b), X, (5, 1, 1))
    case("copy_", lambda a, b: a.clone().copy_(b), X, (7,))
    case("fill", lambda a: aten.fill.Scalar(a, 2.5) + a, X)
    case("fill_tensor", lambda a: aten.fill.Tensor(a, a.sum()) + a, X)
    case("zero", lambda a: aten.zero.default(a), X)


def _casts() -> None:
    case("to_half", lambda x: x.to(torch.float16), X)
    case("to_bfloat16_and_back", lambda x: x.to(torch.bfloat16).to(torch.float32) * 3, X)
    case("_to_copy", lambda x: aten._to_copy.default(x, dtype=torch.bfloat16), X)
    case("to_device", lambda x: aten.to.device(x, "cpu", torch.float16), X)
    case("to_layout", lambda x: aten.to.dtype_layout(x, dtype=torch.float16), X)
    case("type_as", lambda x, y: x.type_as(y), X, images(*X).to(torch.bfloat16))
    case("to_bool", lambda x: (x * 0).to(torch.bool), X)
    case("bool_to_float", lambda x: (x > 0).to(torch.float32), X)


for _family in (_unary, _prelu, _binary, _select, _casts):
    _family()
