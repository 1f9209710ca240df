"""Cases of scaled dot product attention; see op_cases.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from tests.npu_compiler.harness import images
from tests.npu_compiler.op_cases import aten, case

QKV = ((2, 3, 10, 8),) * 3
CROSS = ((2, 4, 5, 8), (2, 4, 11, 8), (2, 4, 11, 6))
GROUPED = ((2, 6, 5, 8), (2, 2, 9, 8), (2, 2, 9, 8))
sdpa = F.scaled_dot_product_attention


def _masks() -> None:
    generator = torch.Generator().manual_seed(1)
    keep = torch.rand(2, 1, 5, 11, generator=generator) < 0.7
    keep[:, :, 2] = False
    additive = images(4, 5, 11, seed=9)
    causal = torch.full((10, 10), float("-inf")).triu(1)
    functions: dict[str, tuple[Callable[..., Any], Any, dict[str, torch.Tensor]]] = {
        "bool": (lambda m, q, k, v: sdpa(q, k, v, m.mask), CROSS, {"mask": keep}),
        "additive": (lambda m, q, k, v: sdpa(q, k, v, m.mask), CROSS, {"mask": additive}),
        "row": (lambda m, q, k, v: sdpa(q, k, v, m.mask), CROSS, {"mask": additive[0, :1]}),
        "infinite": (lambda m, q, k, v: sdpa(q, k, v, m.mask), QKV, {"mask": causal}),
        "computed": (lambda q, k, v, x: sdpa(q, k, v, x > 0), (*CROSS, (5, 11)), {}),
        "computed_additive": (lambda q, k, v, x: sdpa(q, k, v, x * 2), (*CROSS, (2, 1, 1, 11)), {}),
    }
    for name, (function, shapes, buffers) in functions.items():
        case(f"sdpa_mask_{name}", function, *shapes, **buffers)


def _attention() -> None:
    functions: dict[str, tuple[Callable[..., Any], Any]] = {
        "plain": (sdpa, QKV),
        "cross": (sdpa, CROSS),
        "causal": (lambda q, k, v: sdpa(q, k, v, is_causal=True), QKV),
        "causal_cross": (lambda q, k, v: sdpa(q, k, v, is_causal=True), CROSS),
        "scale": (lambda q, k, v: sdpa(q, k, v, scale=0.7), QKV),
        "grouped": (lambda q, k, v: sdpa(q, k, v, enable_gqa=True), GROUPED),
        "three_axes": (sdpa, ((4, 7, 8), (4, 9, 8), (4, 9, 8))),
        "two_axes": (sdpa, ((7, 8), (9, 8), (9, 8))),
        "five_axes": (sdpa, ((2, 3, 2, 7, 8),) * 3),
        "one_head_of_keys": (sdpa, ((2, 4, 5, 8), (2, 1, 9, 8), (2, 1, 9, 8))),
        "long": (sdpa, ((1, 2, 70, 20),) * 3),
        "decode": (
            lambda q, k, v: sdpa(q, k, v, enable_gqa=True),
            ((1, 6, 1, 32), (1, 2, 300, 32), (1, 2, 300, 32)),
        ),
        "flash_for_cpu": (
            lambda q, k, v: aten._scaled_dot_product_flash_attention_for_cpu.default(q, k, v)[0],
            QKV,
        ),
        "math": (
            lambda q, k, v: aten._scaled_dot_product_attention_math.default(q, k, v)[0],
            QKV,
        ),
    }
    for name, (function, shapes) in functions.items():
        case(f"sdpa_{name}", function, *shapes)

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.view(2, 9, 3, 8).transpose(1, 2)

    case(
        "sdpa_of_split_heads",
        lambda x: sdpa(*(heads(p) for p in x.chunk(3, -1))).transpose(1, 2).reshape(2, 9, 24) * 2,
        (2, 9, 72),
    )
    case("sdpa_result_used_twice", lambda q, k, v: (y := sdpa(q, k, v), y * 2), *QKV)


_masks()
_attention()
