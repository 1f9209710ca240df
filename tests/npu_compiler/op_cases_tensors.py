"""Cases of views, reductions, matrix products and image ops; see op_cases.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from tests.npu_compiler.harness import images
from tests.npu_compiler.op_cases import ROW, SPECIAL, X, aten, case


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


for _family in (_views, _reductions, _matmul, _images):
    _family()
