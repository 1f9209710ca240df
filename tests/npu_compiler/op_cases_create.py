"""Cases of tensors made from nothing or from indices; see op_cases.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from tests.npu_compiler.op_cases import aten, case
from tests.npu_compiler.op_cases_index import DTYPES, index, values

INF = float("inf")


def _constants() -> None:
    functions: dict[str, Callable[[torch.Tensor], Any]] = {
        "arange": lambda x: [torch.arange(7), torch.arange(5.0) + x[0, :5]],
        "arange_start": lambda x: [torch.arange(-3, 9), torch.arange(0.5, 5)],
        "arange_step": lambda x: [
            torch.arange(2, 20, 3),
            torch.arange(9, -4, -2),
            torch.arange(0, 1, 0.125),
            torch.arange(0, 5, 7),
            torch.arange(1 << 40, (1 << 40) + 3),
        ],
        "linspace": lambda x: [torch.linspace(-1, 2, 7), torch.linspace(3, 3, 1)],
        "full": lambda x: [torch.full((2, 3), 2.5), torch.full((), 7), torch.full((3,), True)],
        "full_large": lambda x: [x + torch.full((3, 10), -INF), torch.full((70, 80), 1 << 40)],
        "empty_filled": lambda x: torch.empty(3, 10).fill_(2.0) * x,
        "zeros": lambda x: [torch.zeros(2, 3), torch.zeros(0, 4), torch.zeros(2, dtype=torch.bool)],
        "ones": lambda x: [torch.ones(3, 10) * x, torch.ones(2, dtype=torch.int64)],
        "empty": lambda x: torch.empty(3, 10).copy_(x),
        "zeros_like": lambda x: [torch.zeros_like(x), torch.zeros_like(x, dtype=torch.int32)],
        "ones_like": lambda x: torch.ones_like(x) + x,
        "empty_like": lambda x: torch.empty_like(x).fill_(2.0),
        "full_like": lambda x: [torch.full_like(x, -1.5), torch.full_like(x, 3, dtype=torch.uint8)],
        "new": lambda x: [
            x.new_zeros(2, 3),
            x.new_ones((4,), dtype=torch.int16),
            x.new_full((2,), INF),
            x.new_empty((3, 10)).copy_(x),
        ],
        "scalar_tensor": lambda x: x * aten.scalar_tensor.default(3.5),
        "eye": lambda x: [torch.eye(3) @ x, torch.eye(4, 2), torch.eye(2, 5, dtype=torch.int64)],
        "triangle_indices": lambda x: [torch.tril_indices(3, 4, 1), torch.triu_indices(4, 3, -1)],
        "image_of_zeros": lambda x: F.relu(torch.zeros(1, 5, 3, 4)) + torch.ones(1, 5, 3, 4),
    }
    for name, function in functions.items():
        case(name, function, (3, 10))


def _from_indices() -> None:
    def bands(x: torch.Tensor) -> list[torch.Tensor]:
        return [f(x, d) for f in (torch.tril, torch.triu) for d in (-20, -2, 0, 1, 20)]

    case("bands", bands, (5, 7))
    case("bands_image", lambda x: bands(F.max_pool2d(x, 1)), (2, 5, 6, 4))
    case("bands_special", bands, torch.full((3, 3), float("nan")))
    case(
        "causal_mask",
        lambda x: (x + torch.full((6, 6), -INF).triu(1)).softmax(-1),
        (2, 6, 6),
    )
    case(
        "causal_mask_of_ranges",
        lambda x: x.masked_fill(torch.arange(6.0)[:, None] < torch.arange(6.0), -INF),
        (2, 6, 6),
    )
    case("one_hot", lambda i: F.one_hot(i, 7), index(2, 3, limit=7))
    case("one_hot_0d", lambda i: F.one_hot(i, 3), torch.tensor(2))
    case("diag_embed", lambda x: torch.diag_embed(x), (2, 3))
    case("diag_embed_offset", lambda x: torch.diag_embed(x, -2, 0, 2), (2, 3))
    case("diag_embed_image", lambda x: torch.diag_embed(x, 1), (2, 3, 4))
    case("meshgrid", lambda a, b: [g + 0 for g in torch.meshgrid(a, b, indexing="ij")], (3,), (4,))
    case(
        "meshgrid_xy", lambda a, b: [g + 0 for g in torch.meshgrid(a, b, indexing="xy")], (3,), (4,)
    )
    case("meshgrid_default", lambda a, b: aten.meshgrid.default([a, b]), (3,), ())
    case("broadcast_tensors", lambda a, b: torch.broadcast_tensors(a, b), (3, 1), (2, 1, 4))
    for dtype in DTYPES:
        x = values(4, 4, dtype=dtype)
        case(f"bands_{dtype}".replace("torch.", ""), lambda x: [x.tril(), x.triu(1)], x)


_constants()
_from_indices()
