"""Cases of losses, distances and similarities; see op_cases.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from tests.npu_compiler.harness import images
from tests.npu_compiler.op_cases import X, case
from tests.npu_compiler.op_cases_reduction import channels_last

INF = float("inf")
PROBABILITY = torch.sigmoid(images(*X))
TARGET = torch.sigmoid(images(*X, seed=1))
SIGNS = torch.sign(images(*X, seed=2))
COUNTS = (images(*X, seed=1).abs() * 3).round()


def _losses() -> None:
    x, y = images(*X), images(*X, seed=1)
    weight = images(7, seed=3).abs()
    # By name: the loss of (input, target, **reduction) and its inputs.
    losses: dict[str, tuple[Callable[..., Any], tuple[torch.Tensor, ...]]] = {
        "mse_loss": (F.mse_loss, (x, y)),
        "l1_loss": (F.l1_loss, (x, y)),
        "smooth_l1_loss": (F.smooth_l1_loss, (x, y)),
        "smooth_l1_loss_beta": (lambda a, b, **r: F.smooth_l1_loss(a, b, beta=0.3, **r), (x, y)),
        "smooth_l1_loss_0": (lambda a, b, **r: F.smooth_l1_loss(a, b, beta=0.0, **r), (x, y)),
        "huber_loss": (lambda a, b, **r: F.huber_loss(a, b, delta=0.7, **r), (x, y)),
        "bce_logits": (F.binary_cross_entropy_with_logits, (x * 30, TARGET)),
        "bce_logits_weight": (
            lambda a, b, w, **r: F.binary_cross_entropy_with_logits(a, b, w, pos_weight=w, **r),
            (x, TARGET, weight),
        ),
        "kl_div": (F.kl_div, (x, TARGET.round())),
        "kl_div_log": (lambda a, b, **r: F.kl_div(a, b, log_target=True, **r), (x, y)),
        "soft_margin_loss": (F.soft_margin_loss, (x, SIGNS)),
        "poisson": (F.poisson_nll_loss, (x, COUNTS)),
        "poisson_full": (lambda a, b, **r: F.poisson_nll_loss(a, b, full=True, **r), (x, COUNTS)),
        "poisson_plain": (
            lambda a, b, **r: F.poisson_nll_loss(a, b, log_input=False, **r),
            (PROBABILITY, COUNTS),
        ),
        "margin_ranking": (
            lambda a, b, t, **r: F.margin_ranking_loss(a, b, t, margin=0.2, **r),
            (x, y, SIGNS),
        ),
        "hinge_embedding": (F.hinge_embedding_loss, (x, SIGNS)),
    }
    for name, (function, inputs) in losses.items():
        for how in ("none", "mean", "sum"):
            case(f"{name}_{how}", lambda *a, f=function, r=how: f(*a, reduction=r), *inputs)
    aten = torch.ops.aten
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
        function = getattr(aten, name).default
        for reduction in (0, 1, 2):
            label = f"{name}_{reduction}"
            f, r = function, reduction
            case(f"{label}_broadcast", lambda a, b, f=f, r=r: f(a, b, r), (4, 1, 5), (3, 1))
            case(f"{label}_of_none", lambda a, b, f=f, r=r: f(a, b, r), images(0, 3), images(0, 3))
            case(f"{label}_0d", lambda a, b, f=f, r=r: f(a, b, r), images(), images(seed=1))
        case(
            f"{name}_image",
            lambda a, b, f=function: (f(channels_last(a), channels_last(b), 0), f(a, b)),
            (2, 20, 6, 7),
            (2, 20, 6, 7),
        )
    case("mse_loss_of_both", lambda a, b: F.mse_loss(a, b.half().float()) * 2 + 1, X, X)
    case("mse_loss_weights", lambda m, a: F.mse_loss(torch.tanh(a), m.w), X, w=images(*X, seed=4))
    case(
        "mse_loss_permuted",
        lambda a, b: F.mse_loss(a.permute(4, 1, 3, 0, 5, 2), b),
        (2, 3, 2, 3, 2, 3),
        (2, 3, 3, 2, 3, 2),
    )


def _distances() -> None:
    for p in (0.0, 1.0, 2.0, 3.0, INF):
        case(f"pairwise_distance_{p}", lambda a, b, p=p: F.pairwise_distance(a, b, p), X, X)
        case(f"dist_{p}", lambda a, b, p=p: torch.dist(a, b, p), X, (7,))
        case(f"cdist_{p}", lambda a, b, p=p: torch.cdist(a, b, p), (2, 5, 8), (2, 6, 8))
    case("pairwise_distance_keep", lambda a, b: F.pairwise_distance(a, b, keepdim=True), X, (7,))
    case("pairwise_distance_row", lambda a, b: F.pairwise_distance(a, b), (9,), (9,))
    case("pairwise_distance_of_none", F.pairwise_distance, images(0, 3), images(0, 3))
    case("dist_of_none", torch.dist, images(0, 3), images(0, 3))
    case("cdist_batches", torch.cdist, (3, 1, 5, 4), (2, 6, 4))
    case("cdist_matrices", torch.cdist, (30, 40), (27, 40))
    case("cdist_transposed", lambda a, b: torch.cdist(a.mT, b), (2, 8, 5), (2, 6, 8))
    case("cdist_of_no_rows", torch.cdist, images(2, 0, 4), images(2, 3, 4))
    case("cdist_of_no_elements", lambda a, b: torch.cdist(a, b, INF), images(2, 0), images(3, 0))
    for dim in (0, 1, -1):
        case(f"cosine_similarity_{dim}", lambda a, b, d=dim: F.cosine_similarity(a, b, d), X, X)
    case(
        "cosine_similarity_broadcast", lambda a, b: F.cosine_similarity(a, b, 2), (4, 1, 9), (5, 9)
    )
    case("cosine_similarity_zero", lambda a, b: F.cosine_similarity(a * 0, b), (3, 5), (3, 5))
    case("cosine_similarity_of_none", F.cosine_similarity, images(3, 0), images(3, 0))
    case(
        "cosine_similarity_image",
        lambda a, b: F.cosine_similarity(channels_last(a), channels_last(b)),
        (2, 20, 6, 7),
        (2, 20, 6, 7),
    )


_losses()
_distances()
