"""Cases of reads and writes by index tensors; see op_cases.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from tests.npu_compiler.harness import images
from tests.npu_compiler.op_cases import aten, case

DTYPES = (torch.float32, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


def values(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Values of any dtype; large ones for integers."""
    if dtype.is_floating_point:
        return images(*shape, seed=seed).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.bool:
        return torch.randint(0, 2, shape, generator=generator).bool()
    info = torch.iinfo(dtype)
    return torch.randint(info.min, info.max, shape, generator=generator, dtype=dtype)


def index(*shape: int, limit: int, seed: int = 0, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    """Indices in [0, limit), some of them twice."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, limit, shape, generator=generator).to(dtype)


def unique(count: int, limit: int) -> torch.Tensor:
    """Different indices, out of order."""
    return torch.randperm(limit, generator=torch.Generator().manual_seed(1))[:count]


def _reads() -> None:
    table = images(50, 20)
    case("embedding", lambda m, i: F.embedding(i, m.w), index(2, 3, limit=50), w=table)
    case(
        "embedding_padding_idx",
        lambda m, i: F.embedding(i, m.w, padding_idx=3),
        index(7, limit=50, dtype=torch.int32),
        w=table,
    )
    case("embedding_0d", lambda m, i: F.embedding(i, m.w), torch.tensor(7), w=table)
    case("embedding_none", lambda m, i: F.embedding(i, m.w), index(0, 3, limit=5), w=table)
    case("embedding_4d", lambda m, i: F.embedding(i, m.w), index(2, 3, 4, limit=50), w=table)
    case("embedding_transposed", lambda x, i: F.embedding(i, x.t()), (20, 50), index(6, limit=50))
    shape = (2, 5, 6, 7)
    for dim in (0, 1, 2, -1):
        size = shape[dim]
        for kind, prepare in (("rows", lambda x: x), ("image", lambda x: F.max_pool2d(x, 1))):
            case(
                f"index_select_{dim}_{kind}",
                lambda x, i, d=dim, p=prepare: torch.index_select(p(x), d, i),
                shape,
                index(4, limit=size),
            )
            case(
                f"gather_{dim}_{kind}",
                lambda x, i, d=dim, p=prepare: torch.gather(p(x), d, i),
                shape,
                index(2, 3, 4, 5, limit=size),
            )
            case(
                f"gather_permuted_{dim}_{kind}",
                lambda x, i, d=dim, p=prepare: torch.gather(p(x).permute(3, 1, 0, 2), d, i),
                shape,
                index(2, 2, 2, 2, limit=2),
            )
            case(
                f"index_tensor_{dim}_{kind}",
                lambda x, i, d=dim, p=prepare: p(x)[(slice(None),) * (d % 4) + (i,)],
                shape,
                index(3, 2, limit=size) - size // 2,
            )
    case("gather_0d", lambda x, i: torch.gather(x.sum(), 0, i), shape, torch.tensor(0))
    case("gather_empty", lambda x, i: torch.gather(x, 1, i), shape, index(2, 0, 6, 7, limit=1))
    case("index_select_0d", lambda x, i: torch.index_select(x, 1, i), shape, torch.tensor(3))
    case("index_select_none", lambda x, i: torch.index_select(x, 1, i), shape, index(0, limit=1))
    case(
        "index_select_batch_padded",
        lambda x, i: torch.index_select(F.relu(F.max_pool2d(x, 1)), 0, i) + 1,
        (3, 70, 4, 4),
        index(5, limit=3),
    )
    at = index(3, 4, limit=420)
    case("take", lambda x, i, j: [x.take(i), x.transpose(1, 2).take(j)], shape, at, at - 420)
    along = torch.take_along_dim
    case("take_along_dim", lambda x, i: along(x, i, 1), (3, 5), index(3, 2, limit=5))
    case("take_along_broadcast", lambda x, i: along(x, i, -2), (2, 5, 1), index(1, 3, 4, limit=5))
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        x = values(4, 6, dtype=dtype)
        case(f"gather_{name}", lambda x, i: x.gather(1, i), x, index(4, 3, limit=6))
        case(f"index_select_{name}", lambda x, i: x.index_select(0, i), x, index(9, limit=4))
        case(f"embedding_{name}", lambda x, i: F.embedding(i, x), x, index(9, limit=4))
    odd = torch.tensor([float("nan"), float("inf"), -0.0, 1.0])
    case("gather_special", lambda x, i: x.gather(0, i), odd, index(9, limit=4))


def _advanced() -> None:
    shape = (4, 5, 6)
    i, j, k = index(3, limit=4), index(3, limit=5, seed=1), index(3, limit=6, seed=2)
    case("index_two", lambda x, i, j: x[i, j], shape, i, j)
    case("index_two_negative", lambda x, i, j: x[i, j], shape, i - 4, j - 5)
    case("index_three", lambda x, i, j, k: x[i, j, k], shape, i, j, k)
    case("index_apart", lambda x, i, k: x[i, :, k], shape, i, k)
    case("index_middle", lambda x, j, k: x[:, j, k], shape, j, k)
    case("index_broadcast", lambda x, i, j: x[i[:, None], j], shape, i, index(2, limit=5))
    case("index_grid", lambda x, i, j: x[:, i[:, None], j[None]], (2, 4, 5, 3), i, j)
    case("index_of_permuted", lambda x, i, j: x.permute(2, 0, 1)[i, j], shape, i, i)
    case("index_int32", lambda x, i, j: x[i, j], shape, i.int(), j.int())
    case("index_0d", lambda x, i: aten.index.Tensor(x, [None, i]), shape, torch.tensor(-2))
    case("index_image", lambda x, i, j: F.max_pool2d(x, 1)[:, :, i, j], (2, 5, 6, 7), i, j)
    case("index_none", lambda x, i: x[i], shape, index(0, limit=1))
    case("index_long", lambda x, i, j: x[i, j], values(4, 5, dtype=torch.int64), i, j)
    put = aten.index_put.default
    case("index_put", lambda x, v, i: put(x, (i,), v), shape, (3, 5, 6), unique(3, 4))
    case("index_put_two", lambda x, v, i, j: put(x, (i, j), v), shape, (3, 6), unique(3, 4), j)
    case(
        "index_put_accumulate",
        lambda x, v, i, j: put(x, (i, j), v, True),
        shape,
        (9, 1),
        index(9, limit=4) - 4,
        index(9, limit=5, seed=3),
    )
    case("index_put_apart", lambda x, v, i, k: put(x, (i, None, k), v), shape, (3, 5), i, k)
    case(
        "index_put_grid",
        lambda x, v, i, j: put(x, (None, i[:, None], j), v, True),
        (2, 4, 5, 3),
        (2, 3, 1, 3),
        i,
        index(2, limit=5),
    )
    case(
        "index_put_image",
        lambda x, v, i: put(F.max_pool2d(x, 1), (None, None, i), v),
        (2, 5, 6, 7),
        (2, 5, 2, 7),
        unique(2, 6),
    )
    case("index_put_0d", lambda x, v, i: put(x, (i,), v), shape, (5, 6), torch.tensor(2))
    case("index_put_none", lambda x, v, i: put(x, (i,), v), shape, (5, 6), index(0, limit=1))

    def assign(x: torch.Tensor, v: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y[:, i] = v
        return y

    case("index_put_", assign, shape, (4, 3, 6), unique(3, 5))


def _writes() -> None:
    shape = (3, 5, 4)
    for dim in (0, 1, -1):
        size = shape[dim]
        at = index(3, 3, 3, limit=size, seed=dim + 5)
        one = index(3, limit=size, seed=dim + 3)
        source = [*shape]
        source[dim] = 3
        functions: dict[str, Callable[..., Any]] = {
            "scatter_value": lambda x, i, s, d=dim: torch.scatter(x, d, i, 2.5),
            "scatter_add": lambda x, i, s, d=dim: torch.scatter_add(x, d, i, s),
            "scatter_sum": lambda x, i, s, d=dim: torch.scatter_reduce(x, d, i, s, "sum"),
            "scatter_prod": lambda x, i, s, d=dim: torch.scatter_reduce(x, d, i, s, "prod"),
            "scatter_amax": lambda x, i, s, d=dim: torch.scatter_reduce(x, d, i, s, "amax"),
            "scatter_amin": lambda x, i, s, d=dim: torch.scatter_reduce(x, d, i, s, "amin"),
            "scatter_add_old": lambda x, i, s, d=dim: torch.scatter(x, d, i, s, reduce="add"),
            "scatter_multiply": lambda x, i, s, d=dim: torch.scatter(x, d, i, 2, reduce="multiply"),
        }
        for name, function in functions.items():
            case(f"{name}_{dim}", function, shape, at, (3, 4, 3))
        case(
            f"scatter_{dim}",
            lambda x, i, s, d=dim: torch.scatter(x, d, i, s),
            shape,
            at[:1, :1, :1],
            (1, 1, 1),
        )
        case(
            f"index_add_{dim}",
            lambda x, i, s, d=dim: torch.index_add(x, d, i, s),
            shape,
            one,
            source,
        )
        case(
            f"index_add_alpha_{dim}",
            lambda x, i, s, d=dim: torch.index_add(x, d, i, s, alpha=-0.5),
            shape,
            one,
            source,
        )
        case(
            f"index_copy_{dim}",
            lambda x, i, s, d=dim: torch.index_copy(x, d, i, s),
            shape,
            unique(3, size),
            source,
        )
        case(f"index_fill_{dim}", lambda x, i, d=dim: torch.index_fill(x, d, i, -3.0), shape, one)
        case(
            f"index_fill_tensor_{dim}",
            lambda x, i, v, d=dim: aten.index_fill.int_Tensor(x, d, i, v),
            shape,
            one,
            (),
        )
    case(
        "index_copy_image",
        lambda x, s, i: F.max_pool2d(x, 1).index_copy(1, i, s) + 1,
        (2, 70, 3, 3),
        (2, 4, 3, 3),
        unique(4, 70),
    )
    case(
        "index_copy_0d",
        lambda x, s, i: torch.index_copy(x.sum(), 0, i, s),
        shape,
        torch.tensor(1.5),
        torch.tensor([0]),
    )
    case(
        "scatter_unique",
        lambda x, i, s: torch.scatter(x, 1, i, s),
        (3, 5),
        torch.stack([unique(4, 5)] * 3),
        (3, 4),
    )
    case(
        "scatter_none",
        lambda x, i, s: torch.scatter(x, 1, i, s),
        (3, 5),
        index(0, 4, limit=1),
        (3, 4),
    )
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        x, s = values(4, 6, dtype=dtype), values(2, 6, dtype=dtype, seed=1)
        at = unique(2, 4)
        case(f"index_copy_{name}", lambda x, i, s: x.index_copy(0, i, s), x, at, s)
        case(f"index_put_{name}", lambda x, i, s: torch.index_put(x, (i,), s), x, at, s)
        if dtype == torch.bool:
            continue
        near = index(2, 6, limit=4)
        case(f"scatter_add_{name}", lambda x, i, s: x.scatter_add(0, i, s), x, near, s)
        case(f"index_add_{name}", lambda x, i, s: x.index_add(0, i, s), x, index(2, limit=4), s)
        for reduce in ("sum", "prod", "amax", "amin"):
            case(
                f"scatter_{reduce}_{name}",
                lambda x, i, s, r=reduce: x.scatter_reduce(0, i, s, r),
                x,
                near,
                s,
            )
    odd = torch.tensor([1.0, float("nan"), -float("inf"), 2.0])
    at = torch.tensor([0, 0, 1, 2, 3])
    for reduce in ("sum", "prod", "amax", "amin"):
        case(
            f"scatter_{reduce}_special",
            lambda x, i, s, r=reduce: x.scatter_reduce(0, i, s, r),
            odd,
            at,
            torch.tensor([float("nan"), 1.0, 5.0, float("inf"), -float("inf")]),
        )


def _views() -> None:
    shape = (3, 6, 4, 5)
    functions: dict[str, Callable[..., torch.Tensor]] = {
        "slice_scatter": lambda x, s: torch.slice_scatter(x, s[:, :2], 1, 1, 6, 3),
        "slice_scatter_negative": lambda x, s: torch.slice_scatter(x, s[:, :, -2:], -2, -2),
        "slice_scatter_none": lambda x, s: torch.slice_scatter(x, s[:, :0], 1, 4, 2),
        "select_scatter": lambda x, s: torch.select_scatter(x, s[:, :, 0], 2, -1),
        "select_scatter_channel": lambda x, s: torch.select_scatter(x, s[:, 1], 1, 3),
        "diagonal_scatter": lambda x, s: torch.diagonal_scatter(x, s.diagonal(1, 2, 3), 1, 2, 3),
    }
    for name, function in functions.items():
        case(name, lambda x, s, f=function: [f(x, s), f(x * 2, s) + 1], shape, shape)
        case(
            f"{name}_image",
            lambda x, s, f=function: [f(F.max_pool2d(x, 1), s), f(F.max_pool2d(x, 1), s) + 1],
            shape,
            shape,
        )
    for dtype in DTYPES:
        x, s = values(3, 4, dtype=dtype), values(3, 2, dtype=dtype, seed=1)
        name = f"slice_scatter_{dtype}".replace("torch.", "")
        case(name, lambda x, s: torch.slice_scatter(x, s, 1, 1, 3), x, s)


_reads()
_views()
_advanced()
_writes()


def _masked_scatter() -> None:
    mask = images(3, 4, 5, seed=7) > 0
    case("masked_scatter", torch.masked_scatter, (3, 4, 5), mask, (60,))
    case("masked_scatter_rows", torch.masked_scatter, (3, 4, 5), mask[:, :, :1], (12, 5))
    case("masked_scatter_lower_rank", torch.masked_scatter, (3, 4, 5), mask[0], (7, 9))
    case("masked_scatter_nothing", torch.masked_scatter, (3, 4), torch.zeros(4).bool(), (1,))
    case("masked_scatter_no_elements", torch.masked_scatter, (0, 4), torch.ones(4).bool(), (3,))
    case("masked_scatter_0d", torch.masked_scatter, torch.tensor(3), torch.tensor(True),
         torch.arange(2) + 2**40)  # fmt: skip
    case("masked_scatter_image", lambda x, m, s: F.max_pool2d(x, 1).masked_scatter(m, s) + 1,
         (2, 5, 3, 4), images(2, 5, 3, 4, seed=5) > 0.3, (2, 60))  # fmt: skip


_masked_scatter()
