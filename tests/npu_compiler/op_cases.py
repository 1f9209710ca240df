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


def _views() -> None:
    shape = (2, 6, 4, 5)
    functions: dict[str, Callable[[torch.Tensor], Any]] = {
        "view": lambda x: x.view(2, 24, 5) * 2,
        "reshape_across": lambda x: x.transpose(1, 2).reshape(2, -1) * 2,
        "unsafe_view": lambda x: aten._unsafe_view.default(x, [12, 20]) + 1,
        "view_as": lambda x: x.view_as(torch.cat([x, x])[:2]) + 1,
        "flatten": lambda x: x.flatten(1) + 1,
        "flatten_middle": lambda x: x.flatten(1, 2) + 1,
        "unflatten": lambda x: x.unflatten(1, (2, 3)) + 1,
        "permute": lambda x: x.permute(3, 0, -2, 1) * 2,
        "transpose_far": lambda x: x.transpose(0, -1) * 2,
        "contiguous": lambda x: x.permute(0, 2, 3, 1).contiguous() + 1,
        "t": lambda x: x[0, 0].t() * 2,
        "numpy_T": lambda x: aten.numpy_T.default(x[0]) * 2,
        "squeeze": lambda x: x[:, :1].squeeze() * 2,
        "squeeze_dim": lambda x: x[:, :1].squeeze(1) * 2,
        "squeeze_dim_not": lambda x: x.squeeze(1) * 2,
        "squeeze_dims": lambda x: x[:1, :, :1].squeeze((0, 2)) * 2,
        "unsqueeze": lambda x: x.unsqueeze(-2) * x.unsqueeze(2),
        "expand": lambda x: x[:, :1].expand(2, 3, -1, 5) * 2,
        "expand_new_axis": lambda x: x[0, 0].expand(3, 4, 5) * 2,
        "expand_as": lambda x: x[:, :, :1].expand_as(x) + x,
        "slice": lambda x: x[:, 1:5, 1:-1] * 2,
        "slice_step": lambda x: x[:, ::2, :, 1::3] * 2,
        "slice_far": lambda x: x[:, -100:100, 2:1] * 2,
        "select": lambda x: x[:, -2] * 2,
        "select_channel_padded": lambda x: F.relu(x)[:, 3] * 2,
        "narrow": lambda x: aten.narrow.default(x, 1, 1, 3) * 2,
        "split": lambda x: [p * 2 for p in x.split(4, 1)],
        "split_sizes": lambda x: [p * 2 for p in x.split([1, 2, 3], 1)],
        "split_with_sizes": lambda x: [
            p * 2 for p in aten.split_with_sizes.default(x, [1, 2, 3], 1)
        ],
        "chunk": lambda x: [p + 1 for p in x.chunk(4, 1)],
        "unbind": lambda x: [p + 1 for p in x.unbind(2)],
        "view_of_channels_last": lambda x: F.relu(x).view(2, 24, 5) * 2,
        "pixel_shuffle_like": lambda x: (x.view(2, 3, 2, 4, 5).permute(0, 1, 3, 2, 4) * 2).reshape(
            2, 3, 8, 5
        ),
        "six_axes": lambda x: x.view(2, 3, 2, 2, 2, 5).permute(5, 3, 1, 0, 2, 4) * 2,
        "eight_axes": lambda x: (
            x.view(2, 3, 2, 2, 2, 5, 1, 1)
            .expand(2, 3, 2, 2, 2, 5, 2, 2)
            .permute(7, 5, 3, 1, 6, 0, 2, 4)
            * 2
        ),
    }
    for name, function in functions.items():
        case(name, function, shape)
    case("cat_channels", lambda a, b, c: torch.cat([a, b, c], 1), X, (2, 3, 6, 7), (2, 70, 6, 7))
    case("cat_rows", lambda a, b: torch.cat([F.relu(a), b, a], -2), X, (2, 5, 2, 7))
    case("cat_batch", lambda a, b: torch.cat([F.relu(a), b]), X, X)
    case("cat_empty", lambda a: torch.cat([a[:, :0], a, a[:, :0]], 1), X)
    case("cat_legacy_empty", lambda m, a: torch.cat([m.e, a], 1), X, e=torch.empty(0))
    case("cat_one", lambda a: torch.cat([a], 1), X)
    case("cat_2d", lambda a, b: torch.cat([a, b], dim=1), ROW, (3, 4))
    case("cat_images", lambda a, b: torch.cat([F.relu(a), F.relu(b)], 1), X, X)
    case("stack", lambda a, b: torch.stack([a, b], -1), X, X)
    case("pad", lambda x: F.pad(x, (1, 2, 0, 3)), X)
    case("pad_value", lambda x: F.pad(F.relu(x), (1, 2, 0, 3, 1, 1), value=-2.5), X)
    case("pad_crop", lambda x: F.pad(x, (-1, 2, 1, -3)), X)
    case("constant_pad_nd", lambda x: aten.constant_pad_nd.default(x, [1, 1], 3.0), ROW)


def _reductions() -> None:
    dims: dict[str, Any] = {
        "last": -1,
        "channels": 1,
        "spatial": (2, 3),
        "outer": (0, 2),
        "odd": (1, 3),
        "batch": 0,
        "all": (0, 1, 2, 3),
    }
    for name, function in (
        ("mean", torch.mean),
        ("sum", torch.sum),
        ("amax", torch.amax),
        ("amin", torch.amin),
    ):
        for kind, dim in dims.items():
            for keep in (False, True):
                case(
                    f"{name}_{kind}_{'keep' if keep else 'drop'}",
                    lambda x, f=function, d=dim, k=keep: f(x, dim=d, keepdim=k),
                    X,
                )
                case(
                    f"{name}_{kind}_{'keep' if keep else 'drop'}_image",
                    lambda x, f=function, d=dim, k=keep: f(F.relu(F.max_pool2d(x, 1)), d, k),
                    (2, 20, 6, 7),
                )
    for name in ("mean", "sum", "max", "min", "prod"):
        case(f"{name}_default", getattr(aten, name).default, X)
    case("prod_dim", lambda x: torch.prod(x, 1), X)
    case("sum_dtype", lambda x: torch.sum(x, 1, dtype=torch.bfloat16), X)
    case("mean_of_nothing", lambda x: x[:, :0].mean(1), X)
    case("sum_of_nothing", lambda x: x[:, :, :0].sum(2, keepdim=True), X)
    for dim in (0, 1, 2, -1):
        case(f"softmax_{dim}", lambda x, d=dim: torch.softmax(x, d), X)
        case(f"log_softmax_{dim}", lambda x, d=dim: torch.log_softmax(x, d), X)
        case(f"softmax_image_{dim}", lambda x, d=dim: torch.softmax(F.max_pool2d(x, 1), d), X)
    case("softmax_5d", lambda x: torch.softmax(x.view(2, 5, 6, 7, 1), 1), X)
    case("softmax_permuted", lambda x: torch.softmax(x.permute(3, 1, 0, 2), 1), X)
    case("softmax_0d", lambda x: torch.softmax(x.sum(), 0), X)
    case("softmax_masked", lambda x: torch.softmax(x.masked_fill(x > -9, float("-inf")), 1), ROW)
    case("_softmax", lambda x: aten._softmax.default(x, 1, False), X)
    case("_log_softmax", lambda x: aten._log_softmax.default(x, -1, False), X)


def _matmul() -> None:
    case("linear", lambda m, x: F.linear(x, m.w, m.b), (4, 9), w=images(70, 9), b=images(70))
    case("linear_no_bias", lambda m, x: F.linear(x, m.w), (2, 3, 9), w=images(7, 9))
    case("linear_1d", lambda m, x: F.linear(x, m.w, m.b), (9,), w=images(7, 9), b=images(7))
    case("linear_4d", lambda m, x: F.linear(x, m.w, m.b), (2, 3, 4, 9), w=images(7, 9), b=images(7))
    case("linear_dynamic", lambda x, w, b: F.linear(x, w, b), (4, 9), (7, 9), (7,))
    case("linear_of_view", lambda m, x: F.linear(x.transpose(1, 2), m.w), (2, 9, 5), w=images(7, 9))
    case("mm", torch.mm, (3, 4), (4, 5))
    case("mm_weight_t", lambda m, x: torch.mm(x, m.w.t()), (3, 4), w=images(5, 4))
    case("mm_transposed", lambda a, b: torch.mm(a.t(), b.t()), (4, 3), (5, 4))
    case("bmm", torch.bmm, (6, 3, 4), (6, 4, 5))
    case("bmm_transposed", lambda a, b: torch.bmm(a.transpose(1, 2), b), (6, 4, 3), (6, 4, 5))
    for name, shapes in {
        "2d": ((3, 4), (4, 5)),
        "vector_matrix": ((4,), (4, 5)),
        "matrix_vector": ((3, 4), (4,)),
        "vectors": ((4,), (4,)),
        "batch_vector": ((2, 3, 4), (4,)),
        "vector_batch": ((4,), (2, 4, 5)),
        "batch_matrix": ((2, 3, 4), (4, 5)),
        "matrix_batch": ((3, 4), (2, 4, 5)),
        "heads": ((2, 3, 5, 4), (2, 3, 4, 6)),
        "broadcast_batch": ((2, 1, 5, 4), (3, 4, 6)),
        "broadcast_both": ((2, 1, 5, 4), (1, 3, 4, 6)),
    }.items():
        case(f"matmul_{name}", torch.matmul, *shapes)
    case(
        "attention_views",
        lambda q, k: torch.matmul(
            q.view(2, 5, 3, 4).transpose(1, 2), k.view(2, 5, 3, 4).permute(0, 2, 3, 1)
        ),
        (2, 5, 12),
        (2, 5, 12),
    )
    case("addmm", lambda m, x: torch.addmm(m.b, x, m.w), (3, 4), w=images(4, 5), b=images(5))
    case("addmm_square", torch.addmm, (4, 4), (4, 4), (4, 4))
    case("addmm_row", torch.addmm, (5,), (3, 4), (4, 5))
    case("addmm_column", torch.addmm, (3, 1), (3, 4), (4, 5))
    case("addmm_row_2d", lambda m, a, b: torch.addmm(m.r, a, b), (3, 4), (4, 5), r=images(1, 5))
    case(
        "addmm_scaled",
        lambda s, a, b: torch.addmm(s, a, b, beta=0.5, alpha=2),
        (3, 5),
        (3, 4),
        (4, 5),
    )
    case(
        "addmm_beta_0",
        lambda s, a, b: torch.addmm(s * float("nan"), a, b, beta=0),
        (3, 5),
        (3, 4),
        (4, 5),
    )
    case("baddbmm", torch.baddbmm, (6, 3, 5), (6, 3, 4), (6, 4, 5))
    case(
        "baddbmm_scaled",
        lambda s, a, b: torch.baddbmm(s, a, b, beta=2, alpha=0.25),
        (1, 5),
        (6, 3, 4),
        (6, 4, 5),
    )


def _images() -> None:
    def conv(name: str, x: Sequence[int], w: Sequence[int], bias: bool = True, **kw: Any) -> None:
        buffers = {"w": images(*w, seed=5, scale=0.3)}
        if bias:
            buffers["b"] = images(w[0], seed=6)
        case(
            f"conv_{name}",
            lambda m, x: F.conv2d(x, m.w, m.b if bias else None, **kw),
            x,
            **buffers,
        )
        # The same behind a pooling layer: a padded channels_last input.
        case(
            f"conv_{name}_image",
            lambda m, x: F.conv2d(F.max_pool2d(x, 1), m.w, m.b if bias else None, **kw),
            x,
            **buffers,
        )

    conv("plain", (2, 3, 8, 9), (5, 3, 3, 3))
    conv("wide", (2, 20, 8, 9), (70, 20, 1, 1), bias=False)
    conv("stride", (2, 3, 9, 10), (5, 3, 3, 2), stride=(2, 3), padding=(1, 0))
    conv("dilation", (2, 3, 12, 12), (5, 3, 3, 3), dilation=(2, 3), padding=2)
    conv("same", (2, 3, 9, 10), (5, 3, 4, 3), padding="same", dilation=(1, 2))
    conv("valid", (2, 3, 9, 10), (5, 3, 4, 3), padding="valid", stride=2)
    conv("groups", (2, 6, 8, 8), (9, 2, 3, 3), groups=3, padding=1)
    conv("depthwise", (2, 20, 8, 8), (20, 1, 3, 3), groups=20, padding=1)
    conv("depthwise_multiplier", (2, 5, 8, 8), (10, 1, 3, 3), groups=5)
    conv("aligned", (2, 64, 4, 4), (128, 64, 3, 3), padding=1)
    conv("grouped_aligned", (1, 128, 4, 4), (128, 64, 3, 3), padding=1, groups=2)
    case("conv_dynamic", lambda x, w, b: F.conv2d(x, w, b), (2, 3, 8, 8), (5, 3, 3, 3), (5,))
    case(
        "conv_dynamic_image",
        lambda x, w: F.conv2d(F.relu(F.max_pool2d(x, 1)), w),
        (2, 20, 8, 8),
        (5, 20, 3, 3),
    )
    case(
        "convolution",
        lambda m, x: aten.convolution.default(
            x, m.w, m.b, [2, 2], [1, 1], [1, 1], False, [0, 0], 1
        ),
        (2, 3, 8, 8),
        w=images(5, 3, 3, 3),
        b=images(5),
    )
    case(
        "conv_of_slice",
        lambda m, x: F.conv2d(F.max_pool2d(x, 1)[:, 2:7], m.w),
        (2, 20, 6, 6),
        w=images(4, 5, 3, 3),
    )
    case(
        "conv_of_transpose",
        lambda m, x: F.conv2d(x.transpose(2, 3), m.w),
        (2, 20, 6, 7),
        w=images(4, 20, 3, 3),
    )

    for name, kw in {
        "plain": {"kernel_size": 2},
        "resnet": {"kernel_size": 3, "stride": 2, "padding": 1},
        "dilated": {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": 3},
        "ceil": {"kernel_size": (3, 2), "stride": 2, "ceil_mode": True},
        "ceil_padded": {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    }.items():
        case(f"max_pool_{name}", lambda x, kw=kw: F.max_pool2d(x, **kw), (2, 5, 8, 9))
        case(f"max_pool_{name}_odd", lambda x, kw=kw: F.max_pool2d(x, **kw), (2, 20, 7, 10))
    case("max_pool_indices", lambda x: aten.max_pool2d_with_indices.default(x, [2, 2])[0], X)
    case("max_pool_nan", lambda x: F.max_pool2d(x, 2), SPECIAL.reshape(1, 1, 2, 4))
    case(
        "max_pool_minus_inf", lambda x: F.max_pool2d(x, 2), torch.full((1, 2, 4, 4), -float("inf"))
    )
    for name, kw in {
        "plain": {"kernel_size": 2},
        "padded": {"kernel_size": 3, "stride": 2, "padding": 1},
        "not_counted": {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
        "ceil": {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
        "ceil_not_counted": {
            "kernel_size": 3,
            "stride": 2,
            "ceil_mode": True,
            "count_include_pad": False,
        },
        "divisor": {"kernel_size": (2, 3), "divisor_override": 5},
    }.items():
        case(f"avg_pool_{name}", lambda x, kw=kw: F.avg_pool2d(x, **kw), (2, 5, 8, 9))
        case(f"avg_pool_{name}_odd", lambda x, kw=kw: F.avg_pool2d(x, **kw), (2, 20, 7, 10))
    for size in ((1, 1), (3, 4), (6, 7), (9, 8), 2):
        case(f"adaptive_avg_{size}", lambda x, s=size: F.adaptive_avg_pool2d(x, s), (2, 20, 6, 7))
    case("adaptive_avg_none", lambda x: F.adaptive_avg_pool2d(x, (None, 3)), (2, 5, 6, 7))
    case("_adaptive_avg", lambda x: aten._adaptive_avg_pool2d.default(x, [2, 3]), (2, 5, 6, 7))
    case("adaptive_max", lambda x: F.adaptive_max_pool2d(x, (3, 1)), (2, 5, 6, 7))

    statistics = {
        "mean": images(5, seed=1),
        "var": images(5, seed=2).abs() + 0.3,
        "gamma": images(5, seed=3),
        "beta": images(5, seed=4),
    }
    case(
        "batch_norm",
        lambda m, x: F.batch_norm(x, m.mean, m.var, m.gamma, m.beta, eps=1e-3),
        X,
        **statistics,
    )
    case("batch_norm_plain", lambda m, x: F.batch_norm(x, m.mean, m.var), X, **statistics)
    case(
        "batch_norm_only_bias",
        lambda m, x: F.batch_norm(x, m.mean, m.var, None, m.beta),
        X,
        **statistics,
    )
    case(
        "batch_norm_2d",
        lambda m, x: F.batch_norm(x, m.mean, m.var, m.gamma, m.beta),
        (4, 5),
        **statistics,
    )
    case(
        "batch_norm_3d",
        lambda m, x: F.batch_norm(x, m.mean, m.var, m.gamma, m.beta),
        (4, 5, 6),
        **statistics,
    )
    case(
        "batch_norm_dynamic",
        lambda x, mean, var, g, b: F.batch_norm(x, mean, var, g, b),
        X,
        (5,),
        images(5).abs() + 0.3,
        (5,),
        (5,),
    )
    case(
        "batch_norm_legit",
        lambda m, x: aten._native_batch_norm_legit_no_training.default(
            x, m.gamma, m.beta, m.mean, m.var, 0.1, 1e-5
        )[0],
        X,
        **statistics,
    )
    case(
        "native_batch_norm",
        lambda m, x: aten.native_batch_norm.default(
            x, m.gamma, m.beta, m.mean, m.var, False, 0.1, 1e-5
        )[0],
        X,
        **statistics,
    )


for _family in (_unary, _binary, _select, _casts, _views, _reductions, _matmul, _images):
    _family()
