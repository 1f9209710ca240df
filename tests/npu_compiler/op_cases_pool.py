"""Cases of pooling: 1-D, unbatched, indices, adaptive windows; see op_cases.py."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from tests.npu_compiler.harness import images
from tests.npu_compiler.op_cases import SPECIAL, aten, case

WINDOWS: dict[str, dict[str, Any]] = {
    "plain": {"kernel_size": 2},
    "resnet": {"kernel_size": 3, "stride": 2, "padding": 1},
    "dilated": {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": 3},
    "ceil": {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    "ceil_padded": {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
}
ROWS = images(2, 20, 10).round()
# Equal values, NaN and infinities: the index says which one was taken.
TIES = images(2, 20, 7, 10).round()
UNUSUAL = torch.cat([SPECIAL, SPECIAL.flip(1), torch.full((2, 8), -float("inf"))]).reshape(
    1, 1, 4, 8
)


def _indices() -> None:
    for name, kw in WINDOWS.items():
        function = lambda x, kw=kw: F.max_pool2d(x, return_indices=True, **kw)  # noqa: E731
        case(f"max_pool2d_indices_{name}", function, TIES)
        case(f"max_pool2d_indices_{name}_image", lambda x, f=function: f(F.relu(x) * 2), TIES)
        case(f"max_pool1d_indices_{name}",
             lambda x, kw=kw: F.max_pool1d(x, return_indices=True, **kw), ROWS)  # fmt: skip
    case("max_pool2d_indices_unusual", lambda x: F.max_pool2d(x, 2, return_indices=True), UNUSUAL)
    case("max_pool2d_indices_alone", lambda x: F.max_pool2d(x, 2, return_indices=True)[1], TIES)
    case("max_pool2d_indices_unbatched", lambda x: F.max_pool2d(x, 2, return_indices=True), TIES[0])
    case("adaptive_max_unusual", lambda x: F.adaptive_max_pool2d(x, 2, True), UNUSUAL)
    for size in ((1, 1), (3, 4), (7, 10), (9, 8), 2):
        case(f"adaptive_max_{size}", lambda x, s=size: F.adaptive_max_pool2d(x, s), TIES)
        case(f"adaptive_max_indices_{size}",
             lambda x, s=size: F.adaptive_max_pool2d(x, s, return_indices=True), TIES)  # fmt: skip
    case("adaptive_max_1d", lambda x: F.adaptive_max_pool1d(x, 3, True), ROWS)
    case("adaptive_max_1d_values", lambda x: F.adaptive_max_pool1d(x, 3), ROWS[0])
    case("max_pool1d_with_indices",
         lambda x: aten.max_pool1d_with_indices.default(x, [2]), ROWS)  # fmt: skip


def _one_dimension() -> None:
    row = (2, 20, 11)
    for name, kw in WINDOWS.items():
        case(f"max_pool1d_{name}", lambda x, kw=kw: F.max_pool1d(x, **kw), row)
    for name in ("plain", "resnet", "ceil", "ceil_padded"):
        for counted in (False, True):
            kw = {**WINDOWS[name], "count_include_pad": counted}
            case(f"avg_pool1d_{name}_{counted}", lambda x, kw=kw: F.avg_pool1d(x, **kw), row)
    for size in (1, 3, 11, 20):
        case(f"adaptive_avg_1d_{size}", lambda x, s=size: F.adaptive_avg_pool1d(x, s), row)
    case("max_pool1d_unbatched", lambda x: F.max_pool1d(x, 2) * 2, (5, 11))
    case("avg_pool1d_unbatched", lambda x: F.avg_pool1d(x, 3, 1, 1), (5, 11))
    case("avg_pool1d_of_transpose", lambda x: F.avg_pool1d(x.permute(0, 2, 1), 3), (2, 11, 5))
    case("pool1d_chain", lambda x: F.max_pool1d(F.relu(F.avg_pool1d(x, 2)), 2), row)


def _unbatched() -> None:
    image = (5, 8, 9)
    case("max_pool2d_unbatched", lambda x: F.max_pool2d(x, 3, 2, 1) * 2, image)
    case("avg_pool2d_unbatched", lambda x: F.avg_pool2d(x, 3, 2, 1), image)
    case("adaptive_avg_unbatched", lambda x: F.adaptive_avg_pool2d(x, (3, 4)) * 2, image)
    case("adaptive_max_unbatched", lambda x: F.adaptive_max_pool2d(x, (3, 4)), image)
    case(
        "avg_pool_divisor_negative", lambda x: F.avg_pool2d(x, 2, divisor_override=-3), (1, 3, 4, 4)
    )


_indices()
_one_dimension()
_unbatched()
