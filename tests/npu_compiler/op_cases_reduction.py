"""Cases of reductions, norms, softmax, scans and sorts; see op_cases.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from tests.npu_compiler.harness import images
from tests.npu_compiler.op_cases import ROW, SPECIAL, X, aten, case

INF, NAN = float("inf"), float("nan")
IMAGE = (2, 20, 6, 7)
# Every reduced set of dimensions that takes another way through memory.
DIMS: dict[str, Any] = {
    "last": -1,
    "channels": 1,
    "spatial": (2, 3),
    "outer": (0, -2),
    "odd": (1, 3),
    "all": (0, 1, 2, 3),
}


def integers(*shape: int, dtype: torch.dtype = torch.int64, limit: int = 50) -> torch.Tensor:
    """Integers of both signs, few enough for equal ones."""
    generator = torch.Generator().manual_seed(3)
    low = 0 if dtype in (torch.uint8, torch.bool) else -limit
    return torch.randint(low, limit, shape, generator=generator).to(dtype)


def distinct(*shape: int) -> torch.Tensor:
    """Values no two of which are equal, so that every sort gives the same indices."""
    count = torch.Size(shape).numel()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(5))
    return (order.reshape(shape).float() - count / 2) / 8


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """The same values as an image with padded channels on the NPU."""
    return F.max_pool2d(x, 1)


def _dims_of(name: str, function: Callable[..., Any], **options: Any) -> None:
    """``function(x, dim, keepdim)`` over all sets of dimensions, of planes and of images."""
    for kind, dim in DIMS.items():
        for keep in (False, True):
            label = f"{name}_{kind}_{'keep' if keep else 'drop'}"
            case(label, lambda x, d=dim, k=keep: function(x, d, k), X)
            case(f"{label}_image", lambda x, d=dim, k=keep: function(channels_last(x), d, k), IMAGE)
    case(f"{name}_permuted", lambda x: function(x.permute(3, 1, 0, 2), (0, 2), False), X)
    case(f"{name}_0d", lambda x: function(x, 0, False), images())
    case(f"{name}_of_none_kept", lambda x: function(x, -1, False), images(0, 3))


def _reductions() -> None:
    _dims_of("var", lambda x, d, k: torch.var(x, d, keepdim=k, correction=0))
    _dims_of("logsumexp", torch.logsumexp)
    _dims_of("vector_norm", lambda x, d, k: torch.linalg.vector_norm(x, 2, d, k))
    _dims_of("any", lambda x, d, k: torch.any(x > 1.5, d, k))
    for order in (0, 1, 2, INF, -INF):
        case(f"norm_{order}", lambda x, p=order: torch.linalg.vector_norm(x, p, (1, -1)), X)
        case(f"norm_{order}_columns", lambda x, p=order: torch.linalg.vector_norm(x, p, 0), X)
    case("norm_scalar", lambda x: aten.norm.Scalar(x, 2), X)
    case("norm_dim", lambda x: aten.norm.ScalarOpt_dim(x, 1, [1, 2], True), X)
    case("norm_dtype", lambda x: aten.norm.ScalarOpt_dtype(x, 2, dtype=torch.float32), X)
    case(
        "norm_dim_dtype",
        lambda x: aten.norm.ScalarOpt_dim_dtype(x, 2, [-1], False, dtype=torch.float32),
        X,
    )
    case("linalg_norm", lambda x: torch.linalg.norm(x, dim=(1, 2)), X)
    case("linalg_norm_order", lambda x: torch.linalg.norm(x, 1, dim=-1, keepdim=True), X)
    case("frobenius_norm", lambda x: aten.frobenius_norm.dim(x, [2, 3]), X)
    case("norm_of_special", lambda x: torch.linalg.vector_norm(x, INF), SPECIAL)
    for name in ("var", "std"):
        function = getattr(aten, name)
        case(f"{name}_default", lambda x, f=function: f.default(x), X)
        case(f"{name}_biased", lambda x, f=function: f.default(x, False), X)
        case(f"{name}_dim", lambda x, f=function: f.dim(x, [1, 2], False, True), X)
        case(f"{name}_correction", lambda x, f=function: f.correction(x, [-1], correction=2), X)
        case(f"{name}_of_one", lambda x, f=function: f.correction(x[:, :1], [1], correction=1), X)
        both = getattr(aten, f"{name}_mean")
        case(f"{name}_mean_default", lambda x, f=both: f.default(x), X)
        case(f"{name}_mean_dim", lambda x, f=both: f.dim(x, [0, 3], True), X)
        case(f"{name}_mean_image", lambda x, f=both: f.correction(channels_last(x), [2, 3]), IMAGE)
    case("var_far_from_zero", lambda x: torch.var(x + 1000, -1), (4, 300))
    case("any_default", torch.any, integers(3, 4).gt(40))
    case("any_dims", lambda x: aten.any.dims(x, [0, -1]), integers(2, 3, 4).gt(40))
    case("all_default", torch.all, integers(3, 4).gt(-60))
    case("all_dim", lambda x: torch.all(x, 1, True), integers(3, 2).gt(0))
    case("all_dims", lambda x: aten.all.dims(x, [0, 2]), integers(2, 3, 4).gt(-45))
    case("any_of_floats", lambda x: torch.any(x, 1), torch.tensor([[0.0, -0.0], [0.0, NAN]]))
    case("all_of_bytes", lambda x: torch.all(x, 1), integers(4, 3, dtype=torch.uint8))
    case("any_of_nothing", lambda x: torch.any(x[:, :0], 1), integers(3, 4))
    case("all_of_nothing", lambda x: torch.all(x[:, :0], 1), integers(3, 4))
    case("count_nonzero", lambda x: torch.count_nonzero(x.relu()), X)
    case("count_nonzero_dims", lambda x: torch.count_nonzero(x, (0, 2)), integers(4, 3, 5, limit=2))
    for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool):
        x = integers(3, 4, 5, dtype=dtype)
        label = str(dtype).removeprefix("torch.")
        case(f"sum_{label}", lambda x: (x.sum(), x.sum((0, -1)), x.sum(1, keepdim=True)), x)
        case(f"prod_{label}", lambda x: (x[0].prod(), x.prod(1)), x)
        case(f"amax_{label}", lambda x: (x.amax((0, 2)), x.amin(1), x.amax()), x)
        if dtype != torch.bool:
            case(f"argmax_{label}", lambda x: (x.argmax(), x.argmin(1), x.argmax(0)), x)
            case(f"cumsum_{label}", lambda x: (x.cumsum(1), x.cumprod(-1)), x)
            case(f"cummax_{label}", lambda x: (*x.cummax(1), *x.cummin(-1)), x)
            case(f"sort_{label}", lambda x: torch.sort(x, dim=1, stable=True), x)
    case("max_bool", lambda x: torch.max(x, 1), integers(3, 5, dtype=torch.bool))
    case("sum_wraps", lambda x: x.sum(0), torch.full((3, 4), 2**62))
    case("sum_to_int32", lambda x: x.sum(0, dtype=torch.int32), torch.full((3, 4), 2**30))
    case("sum_of_int_to_float", lambda x: x.sum(0, dtype=torch.float32), integers(3, 4))
    case("mean_of_int_to_float", lambda x: x.mean(1, dtype=torch.float32), integers(3, 4))
    case("large_int_sum", lambda x: x.sum(), torch.tensor([2**40 + 1, 2**53 + 1, -3]))
    case("amax_of_large_ints", lambda x: (x.amax(), x.argmax()), torch.tensor([2**53, 2**53 + 1]))
    for name in ("argmax", "argmin"):
        function = getattr(torch, name)
        case(f"{name}_flat", lambda x, f=function: f(x), X)
        case(f"{name}_flat_keep", lambda x, f=function: f(x, keepdim=True), X)
        case(f"{name}_flat_permuted", lambda x, f=function: f(x.permute(2, 0, 3, 1)), X)
        case(f"{name}_flat_image", lambda x, f=function: f(channels_last(x)), IMAGE)
        for dim in (0, 1, -1):
            case(f"{name}_{dim}", lambda x, f=function, d=dim: f(x, d, keepdim=True), X)
            case(f"{name}_image_{dim}", lambda x, f=function, d=dim: f(channels_last(x), d), IMAGE)
        case(f"{name}_special", lambda x, f=function: f(x, -1), SPECIAL)
        case(f"{name}_0d", lambda x, f=function: f(x, 0), images())
        case(f"{name}_long", lambda x, f=function: f(x, -1), (2, 5000))
    zeros = torch.tensor([[0.0, -0.0, 0.0], [-0.0, 0.0, NAN], [NAN, 1.0, NAN], [INF, INF, 1.0]])
    case("argmax_ties", lambda x: (x.argmax(1), x.argmin(1)), zeros)
    case("argmax_ties_columns", lambda x: (x.t().argmax(0), x.t().argmin(0)), zeros.repeat(3, 1))
    case("max_dim", lambda x: torch.max(x, 1), X)
    case("min_dim", lambda x: torch.min(x, -1, keepdim=True), X)
    case("max_dim_image", lambda x: torch.max(channels_last(x), 1), IMAGE)
    case("min_dim_image", lambda x: torch.min(channels_last(x), 3), IMAGE)
    case("max_dim_values", lambda x: torch.max(x, 1).values + 1, X)
    case("max_dim_special", lambda x: torch.max(x, 1), zeros)
    case("max_dim_0d", lambda x: torch.max(x, 0), images())
    case("aminmax", lambda x: torch.aminmax(x, dim=1), X)
    case("aminmax_all", lambda x: torch.aminmax(x), integers(3, 4))
    case("sum_long_row", lambda x: (x.sum(), x.mean(), x.amax()), (3, 70_000))
    case("sum_long_column", lambda x: x.sum(0), (5000, 16))


def _softmax() -> None:
    row = torch.tensor([[1.0, -INF, 2.0], [-INF, -INF, -INF], [NAN, 1.0, 2.0], [INF, 1.0, 0.0]])
    case("safe_softmax", lambda x: aten._safe_softmax.default(x, -1), row)
    case("safe_softmax_dim", lambda x: aten._safe_softmax.default(x, 1), X)
    case("softmax_dtype", lambda x: torch.softmax(x, -1, dtype=torch.float32), images(3, 5))
    case("softmax_of_special", lambda x: torch.softmax(x, -1), row)
    case("log_softmax_of_special", lambda x: torch.log_softmax(x, 0), row)
    case("softmax_of_none", lambda x: torch.softmax(x, 1), images(0, 3))


def _norms() -> None:
    w, b = images(7, seed=8) + 1, images(7, seed=9)
    case("layer_norm", lambda m, x: F.layer_norm(x, (7,), m.w, m.b), X, w=w, b=b)
    case("layer_norm_plain", lambda x: F.layer_norm(x, (6, 7)), X)
    case("layer_norm_weight", lambda m, x: F.layer_norm(x, (7,), m.w), X, w=w)
    case("layer_norm_bias", lambda m, x: F.layer_norm(x, (7,), None, m.b, 1e-3), X, b=b)
    case("layer_norm_dynamic", lambda x, w, b: F.layer_norm(x, (6, 7), w, b), X, (6, 7), (6, 7))
    case(
        "layer_norm_image",
        lambda m, x: F.layer_norm(channels_last(x), (7,), m.w, m.b),
        IMAGE,
        w=w,
        b=b,
    )
    case(
        "layer_norm_channels",
        lambda m, x: F.layer_norm(channels_last(x).permute(0, 2, 3, 1), (20,), m.w, m.b),
        IMAGE,
        w=images(20),
        b=images(20),
    )
    case(
        "layer_norm_transposed",
        lambda m, x: F.layer_norm(x.transpose(-1, -2), (6,), m.w),
        X,
        w=images(6),
    )
    case("layer_norm_whole", lambda x: F.layer_norm(x, X), X)
    case("layer_norm_long", lambda x: F.layer_norm(x, (70_000,)), (2, 70_000))
    case("layer_norm_far", lambda x: F.layer_norm(x + 300, (64,)), (3, 64))
    case("layer_norm_of_none", lambda x: F.layer_norm(x, (3,)), images(0, 3))
    case("layer_norm_of_special", lambda x: F.layer_norm(x, (8,)), SPECIAL)
    case(
        "native_layer_norm",
        lambda m, x: aten.native_layer_norm.default(x, [7], m.w, m.b, 1e-5)[0],
        X,
        w=w,
        b=b,
    )
    case("rms_norm", lambda m, x: F.rms_norm(x, (7,), m.w, 1e-6), X, w=w)
    case("rms_norm_plain", lambda x: F.rms_norm(x, (6, 7)), X)
    case("fused_rms_norm", lambda m, x: aten._fused_rms_norm.default(x, [7], m.w, 1e-6)[0], X, w=w)
    c, d = images(20, seed=8) + 1, images(20, seed=9)
    for groups in (1, 4, 20):
        for name, prepare in (("planes", lambda x: x), ("image", channels_last)):
            case(
                f"group_norm_{groups}_{name}",
                lambda m, x, g=groups, p=prepare: F.group_norm(p(x), g, m.c, m.d),
                IMAGE,
                c=c,
                d=d,
            )
    case("group_norm_plain", lambda x: F.group_norm(x, 5), (2, 20))
    case("group_norm_3d", lambda m, x: F.group_norm(x, 2, m.c), (2, 20, 9), c=c)
    case("group_norm_5d", lambda m, x: F.group_norm(x, 2, None, m.d), (2, 20, 3, 2, 2), d=d)
    case(
        "native_group_norm",
        lambda m, x: aten.native_group_norm.default(x, m.c, m.d, 2, 20, 42, 4, 1e-5)[0],
        IMAGE,
        c=c,
        d=d,
    )
    case("instance_norm", lambda m, x: F.instance_norm(x, weight=m.c, bias=m.d), IMAGE, c=c, d=d)
    case("instance_norm_image", lambda x: F.instance_norm(channels_last(x)), IMAGE)
    case("instance_norm_3d", lambda x: F.instance_norm(x), (2, 20, 9))


def _scans() -> None:
    for name in ("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin"):
        function = getattr(torch, name)
        for dim in (0, 1, -1):
            case(f"{name}_{dim}", lambda x, f=function, d=dim: f(x, d), X)
            case(f"{name}_image_{dim}", lambda x, f=function, d=dim: f(channels_last(x), d), IMAGE)
        case(f"{name}_permuted", lambda x, f=function: f(x.permute(2, 0, 3, 1), 1), X)
        case(f"{name}_0d", lambda x, f=function: f(x, 0), images())
        case(f"{name}_of_none", lambda x, f=function: f(x, 1), images(3, 0))
        case(f"{name}_special", lambda x, f=function: f(x, 1), SPECIAL)
    case("cumsum_long", lambda x: x.cumsum(1), (2, 3000))
    case("cumsum_mask", lambda x: x.cumsum(1), integers(3, 6, dtype=torch.bool))
    case("cumsum_dtype", lambda x: x.cumsum(1, dtype=torch.float32), integers(3, 6))
    case("cumprod_near_one", lambda x: (1 + x * 0.01).cumprod(0), (700, 20))
    ties = torch.tensor([[1.0, 1.0, 0.0, 1.0], [0.0, -0.0, NAN, 3.0], [NAN, 1.0, NAN, 2.0]])
    case("cummax_ties", lambda x: (*x.cummax(1), *x.cummin(1)), ties)


def _sorts() -> None:
    x, image = distinct(3, 7, 5), distinct(2, 20, 3, 4)
    for descending in (False, True):
        label = "down" if descending else "up"
        for dim in (0, 1, -1):
            case(f"sort_{dim}_{label}", lambda x, d=dim, r=descending: x.sort(d, r), x)
        case(f"sort_image_{label}", lambda x, r=descending: channels_last(x).sort(1, r), image)
        case(
            f"sort_stable_{label}",
            lambda x, r=descending: torch.sort(x, stable=True, dim=0, descending=r),
            images(40, 3).round(),
        )
        case(f"argsort_{label}", lambda x, r=descending: x.argsort(1, r), x)
        case(
            f"argsort_stable_{label}",
            lambda x, r=descending: torch.argsort(x, dim=0, descending=r, stable=True),
            images(40, 3).round(),
        )
        special = torch.cat([SPECIAL, SPECIAL.flip(1)], 1)
        case(
            f"sort_special_{label}",
            lambda x, r=descending: torch.sort(x, dim=1, descending=r, stable=True),
            special,
        )
        case(f"sort_long_{label}", lambda x, r=descending: x.sort(1, r), distinct(2, 700))
    case("sort_permuted", lambda x: x.permute(2, 0, 1).sort(1), x)
    case("sort_0d", lambda x: x.sort(), images())
    case("sort_of_none", lambda x: x.sort(1), images(3, 0))
    case("sort_wide_ints", lambda x: x.sort(), torch.tensor([2**62, -(2**62), 5, -1, 2**40]))
    case("msort", torch.msort, x)
    for largest in (False, True):
        label = "largest" if largest else "smallest"
        case(f"topk_{label}", lambda x, r=largest: x.topk(3, 1, r), x)
        case(f"topk_first_{label}", lambda x, r=largest: x.topk(2, 0, r), x)
        case(f"topk_image_{label}", lambda x, r=largest: channels_last(x).topk(5, 1, r), image)
        case(f"topk_long_{label}", lambda x, r=largest: x.topk(7, -1, r), distinct(1, 9000))
        case(f"topk_ints_{label}", lambda x, r=largest: x.topk(3, -1, r), torch.arange(30) * 7 % 31)
    case("topk_all", lambda x: x.topk(10), distinct(*ROW))
    case("topk_none", lambda x: x.topk(0), distinct(*ROW))
    case("topk_values", lambda x: x.topk(3).values * 2, distinct(*ROW))
    case("kthvalue", lambda x: x.kthvalue(4, 1), x)
    case("kthvalue_keep", lambda x: x.kthvalue(1, -1, True), x)
    case("median_dim", lambda x: x.median(1), x)
    case("median_even", lambda x: x.median(0, True), distinct(4, 3))
    case("median_nan", lambda x: x.median(1), torch.tensor([[1.0, NAN, 0.5], [3.0, 1.0, 2.0]]))
    case("median_ints", lambda x: x.median(1), torch.arange(15).reshape(3, 5).flip(1))
    case("median_1d", lambda x: x.median(0), distinct(9))
    case("median_of_all", torch.median, distinct(3, 4, 5))
    case("median_of_all_nan", torch.median, torch.tensor([[1.0, NAN], [3.0, 2.0]]))
    case("median_of_one", torch.median, torch.tensor(2.5))
    case("median_of_an_image", lambda x: channels_last(x).median() + 1, distinct(2, 5, 3, 4))
    holes = torch.tensor([[1.0, NAN, 0.5, 7.0], [NAN, 4.0, NAN, NAN], [4.0, 3.0, 2.0, 1.0]])
    case("nanmedian_dim", lambda x: x.nanmedian(1), holes)
    case("nanmedian_first_dim", lambda x: x.nanmedian(0, True), holes)
    case("nanmedian_only_nan", lambda x: x.nanmedian(0).values, holes * NAN)
    case("nanmedian_of_all", torch.nanmedian, holes)
    case("nanmedian_ints", lambda x: x.nanmedian(1), torch.arange(15).reshape(3, 5).flip(1))


_reductions()
_softmax()
_norms()
_scans()
_sorts()
