"""Which masks become positions, which rotary embeddings and cache updates become one dispatch, and
which must not.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

from tests.npu_compiler.harness import Function, Result, check, images, ir_of

B, H, G, T, N, D = 2, 4, 2, 3, 40, 8
Tensor = torch.Tensor
Mask = Callable[[Tensor], Tensor]


def _positions() -> Tensor:
    return torch.tensor([[0, 7, 39], [20, 3, 12]])


def _qkv() -> tuple[Tensor, Tensor, Tensor]:
    return images(B, H, T, D, seed=1), images(B, G, N, D, seed=2), images(B, G, N, D, seed=3)


def _joined(heads: Tensor) -> Tensor:
    """Heads (b, h, t, d) side by side, (b, t, h * d), for one elementwise dispatch: an output would
    have a layout of its own.
    """
    return heads.transpose(1, 2).flatten(2) * 2


def _attend(mask: Mask, **options: object) -> Result:
    """Attention under a mask of positions."""

    def function(q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> Tensor:
        return _joined(sdpa(q, k, v, mask(positions), enable_gqa=True))

    return check(Function(function), *_qkv(), _positions(), **options)


def _keys() -> Tensor:
    return torch.arange(N)


BECOME_POSITIONS: dict[str, Mask] = {
    "le": lambda p: _keys() <= p[:, None, :, None],
    "ge": lambda p: p[:, None, :, None] >= _keys(),
    "lt": lambda p: _keys() < p[:, None, :, None] + 1,
    "gt": lambda p: p[:, None, :, None] + 1 > _keys()[None, None, None],
    "int32": lambda p: _keys().to(torch.int32) <= p.to(torch.int32)[:, None, :, None],
    "expanded": lambda p: (_keys() <= p[:, None, :, None]).expand(B, H, T, N),
    "window": lambda p: (_keys() <= p[:, None, :, None]) & (_keys() > p[:, None, :, None] - 5),
    "window_ge": lambda p: torch.logical_and(
        _keys() >= p[:, None, :, None] - 4, p[:, None, :, None] >= _keys()
    ),
    "one_batch": lambda p: _keys() <= p[:1, None, :, None],
    "additive": lambda p: torch.where(_keys() <= p[:, None, :, None], 0.0, -inf),
    "additive_finite": lambda p: torch.where(
        _keys() <= p[:, None, :, None], 0.0, torch.finfo(torch.float32).min
    ),
    "filled": lambda p: torch.zeros(B, 1, T, N).masked_fill(
        ~(_keys() <= p[:, None, :, None]), -inf
    ),
}
STAY_MASKS: dict[str, Mask] = {
    "behind": lambda p: _keys() >= p[:, None, :, None],
    "before": lambda p: _keys() < p[:, None, :, None],
    "shifted": lambda p: _keys() <= p[:, None, :, None] + 2,
    "only_a_window": lambda p: _keys() > p[:, None, :, None] - 5,
    "no_window": lambda p: (_keys() <= p[:, None, :, None]) & (_keys() > p[:, None, :, None] + 1),
    "other_positions": lambda p: (
        (_keys() <= p[:, None, :, None]) & (_keys() > p.flip(1)[:, None, :, None] - 5)
    ),
    "step_of_two": lambda p: torch.arange(0, 2 * N, 2) <= p[:, None, :, None],
    "from_one": lambda p: torch.arange(1, N + 1) <= p[:, None, :, None],
    "either": lambda p: (_keys() <= p[:, None, :, None]) | (_keys() == 5),
    "by_key": lambda p: (_keys() <= p[0, 1]) & (_keys() <= p[:, None, :, None]),
    "small_penalty": lambda p: torch.where(_keys() <= p[:, None, :, None], 0.0, -2.0),
    "bonus": lambda p: torch.where(_keys() <= p[:, None, :, None], 1.0, -inf),
}


@pytest.mark.parametrize("name", BECOME_POSITIONS)
def test_masks_that_become_positions(name: str) -> None:
    converted = ["elementwise"] if name == "int32" else []
    assert _attend(BECOME_POSITIONS[name]).kernels == [*converted, "attention", "elementwise"]


@pytest.mark.parametrize("name", STAY_MASKS)
def test_masks_that_stay(name: str) -> None:
    result = _attend(STAY_MASKS[name])
    assert len(result.kernels) > 2 and result.kernels[-2] == "attention"


def test_a_mask_that_is_returned_is_computed_once_more() -> None:
    def function(q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> list[Tensor]:
        mask = _keys() <= positions[:, None, :, None]
        return [_joined(sdpa(q, k, v, mask, enable_gqa=True)), mask[:, 0]]

    kernels = check(Function(function), *_qkv(), _positions()).kernels
    assert kernels.count("attention") == 1 and len(kernels) <= 4


def test_a_query_before_all_keys_gives_zeros() -> None:
    def function(q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> Tensor:
        return _joined(sdpa(q, k, v, _keys() <= positions[:, None, :, None], enable_gqa=True))

    positions = torch.tensor([[-1, 2, N + 3], [-7, 0, 1 << 40]])
    result = check(Function(function), *_qkv(), positions)
    assert result.kernels == ["attention", "elementwise"] and (result.outputs[0][:, 0] == 0).all()


# Attention written out.


def _eager(limit: float, softcap: float) -> Result:
    def function(q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> Tensor:
        k, v = (x[:, :, None].expand(B, G, H // G, N, D).reshape(B, H, N, D) for x in (k, v))
        scores = torch.tanh(q @ k.transpose(2, 3) * 0.5 / limit) * softcap
        hidden = torch.where(_keys() <= positions[:, None, :, None], 0.0, -inf)
        return _joined(torch.softmax(scores + hidden, -1) @ v)

    return check(Function(function), *_qkv(), _positions())


@pytest.mark.parametrize("hidden", [-inf, torch.finfo(torch.float32).min])
def test_scores_replaced_where_a_mask_of_positions_says_so(hidden: float) -> None:
    def function(q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> Tensor:
        mask = _keys() <= positions[:, None, :, None]
        scores = torch.where(mask, q[:, :G] @ k.transpose(2, 3), hidden)
        return _joined(torch.softmax(scores, -1) @ v)

    kernels = check(Function(function), *_qkv(), _positions()).kernels
    assert kernels == ["attention", "elementwise"]


def test_finite_numbers_stay_where_a_mask_may_hide_every_key() -> None:
    def function(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        scores = torch.where(mask, q[:, :G] @ k.transpose(2, 3), torch.finfo(torch.float32).min)
        return _joined(torch.softmax(scores, -1) @ v)

    mask = torch.rand(B, 1, T, N, generator=torch.Generator().manual_seed(0)) < 0.5
    mask[0, 0, 0] = False
    check(Function(function), *_qkv(), mask)


def test_soft_cap_grouped_heads_and_positions_are_one_dispatch() -> None:
    assert _eager(2.0, 2.0).kernels == ["attention", "elementwise"]


def test_another_factor_behind_tanh_is_no_soft_cap() -> None:
    assert "attention" not in _eager(2.0, 3.0).kernels


# Rotary embeddings and caches.


def _half(x: Tensor) -> Tensor:
    return torch.cat((-x[..., D // 2 :], x[..., : D // 2]), -1)


def _rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return x * cos + _half(x) * sin


def _layer(case: str) -> Result:
    """A layer's rotary embeddings, cache updates and attention, with something about it changed."""
    rows, batch = N, 1

    def function(
        q: Tensor, k: Tensor, v: Tensor, ks: Tensor, vs: Tensor, positions: Tensor, slots: Tensor
    ) -> list[Tensor]:
        angles = positions[..., None].float() * torch.linspace(1, 0.01, D // 2)
        emb = torch.cat((angles, angles), -1)
        cos, sin = emb.cos()[:, None], emb.sin()[:, None]
        q, turned = _rope(q, cos, sin), _rope(k, sin if case == "tables" else cos, sin)
        tokens = turned.transpose(1, 2).reshape(-1, G, D)
        values = v.transpose(1, 2).reshape(-1, G, D)
        other = slots + 1 if case == "slots" else slots
        flat = (ks.view(rows, G, D), vs.view(rows, G, D))
        new_k = flat[0].index_copy(0, slots, tokens).view(ks.shape)
        new_v = flat[0 if case == "one_cache" else 1].index_copy(0, other, values).view(vs.shape)
        mask = torch.arange(rows) <= positions[:, None, :, None]
        out = sdpa(q, new_k.transpose(1, 2), new_v.transpose(1, 2), mask, enable_gqa=True)
        results = [_joined(out), new_k, new_v]
        if case == "keys_read":
            results.append(turned + 1)
        if case == "queries_read":
            results.append(q + 1)
        if case == "table_read":
            results.append(cos + 1)
        if case == "old_cache_read":
            results.append(ks + 1)
        return results

    inputs = (
        *(images(batch, heads, T, D, seed=s) for s, heads in ((1, H), (2, G), (3, G))),
        *(images(batch, rows, G, D, seed=s) for s in (4, 5)),
        torch.tensor([[4, 5, 6]]),
        torch.tensor([4, 5, 6]),
    )
    module = Function(function)
    names = [t["name"] for t in ir_of(module.eval(), inputs)["graph_inputs"]][3:5]
    donated = () if case in ("one_cache", "old_cache_read") else names
    return check(module, *inputs, donate_inputs=donated)


def test_a_layer_is_tables_rotary_cache_and_attention() -> None:
    result = _layer("")
    assert result.kernels == ["elementwise", "rotary_cache", "attention", "elementwise"]
    assert result.copies == 0


@pytest.mark.parametrize("case", ["slots", "tables", "keys_read", "queries_read", "table_read"])
def test_layers_that_are_not_fused(case: str) -> None:
    result = _layer(case)
    assert "rotary_cache" not in result.kernels and result.kernels.count("scatter") == 2


@pytest.mark.parametrize("case", ["one_cache", "old_cache_read"])
def test_caches_that_are_needed_later_are_copied(case: str) -> None:
    result = _layer(case)
    assert result.copies >= 2
