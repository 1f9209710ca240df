"""Arguments of losses and distances."""

from __future__ import annotations

from tests.fuzz.registry import Call, generator
from tests.fuzz.sampler import Sampler

# None, the mean and the sum.
_REDUCTIONS = [1, 0, 2]


@generator("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss")
def _difference(s: Sampler) -> Call:
    x = s.float()
    return [x, s.broadcast(x, [s.float_dtype]), s.pick(_REDUCTIONS)], {}


@generator("kl_div")
def _kl_div(s: Sampler) -> Call:
    x = s.float()
    return [x, s.fresh(x.shape, kind="unit"), s.pick(_REDUCTIONS)], {"log_target": s.chance()}


@generator("binary_cross_entropy_with_logits")
def _binary_cross_entropy(s: Sampler) -> Call:
    x = s.float()
    return [x, s.fresh(x.shape, kind="unit"), None, None, s.pick(_REDUCTIONS)], {}


@generator("poisson_nll_loss")
def _poisson(s: Sampler) -> Call:
    x = s.fresh(s.float().shape, kind="unit")
    target = s.fresh(x.shape, kind="positive")
    return [x, target, s.chance(), s.chance(), 1e-8, s.pick(_REDUCTIONS)], {}


@generator("margin_ranking_loss")
def _margin_ranking(s: Sampler) -> Call:
    x = s.float()
    return [x, s.fresh(x.shape), s.fresh(x.shape), 0.25, s.pick(_REDUCTIONS)], {}


@generator("hinge_embedding_loss")
def _hinge_embedding(s: Sampler) -> Call:
    x = s.float()
    return [x, s.fresh(x.shape), 1.0, s.pick(_REDUCTIONS)], {}


@generator("cdist")
def _cdist(s: Sampler) -> Call:
    x = s.float((2, 4))
    rows = s.integer(0, 5)
    y = s.fresh((*x.shape[:-2], rows, x.shape[-1]))
    return [x, y, s.pick([2.0, 1.0, 0.0, 3.0, float("inf")])], {}
