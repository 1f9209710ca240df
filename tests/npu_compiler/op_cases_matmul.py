"""Cases of matrix and vector products and einsum; see op_cases.py."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tests.npu_compiler.harness import Function, images
from tests.npu_compiler.op_cases import aten, case


def _products() -> None:
    case("mv", torch.mv, (5, 7), (7,))
    case("mv_of_transpose", lambda a, v: torch.mv(a.t(), v) * 2, (7, 5), (7,))
    case("dot", torch.dot, (70,), (70,))
    case("vdot", torch.vdot, (7,), (7,))
    case("outer", torch.outer, (5,), (7,))
    case("ger", aten.ger.default, (5,), (7,))
    case("inner", torch.inner, (2, 3, 7), (5, 7))
    case("inner_vectors", lambda a, b: torch.inner(a, b) + 1, (7,), (7,))
    case("inner_scalar", torch.inner, (2, 3), ())
    case("vecdot", lambda a, b: torch.linalg.vecdot(a, b), (2, 3, 7), (3, 7))
    case("vecdot_dim", lambda a, b: torch.linalg.vecdot(a, b, dim=1), (2, 3, 7), (2, 3, 7))
    case("linalg_matmul", lambda a, b: aten.linalg_matmul.default(a, b), (2, 3, 4), (4, 5))
    case("chain", lambda a, b, c: aten.chain_matmul.default([a, b, c]), (2, 3), (3, 4), (4, 5))
    case("multi_dot", lambda a, b, c: torch.linalg.multi_dot([a, b, c]), (3,), (3, 4), (4, 5))
    case("tensordot", lambda a, b: torch.tensordot(a, b, dims=2), (2, 3, 4), (3, 4, 5))
    case(
        "tensordot_dims",
        lambda a, b: torch.tensordot(a, b, dims=([2, 0], [0, -1])) * 2,
        (2, 3, 4),
        (4, 5, 2),
    )
    case("tensordot_none", lambda a, b: torch.tensordot(a, b, dims=0), (2, 3), (4,))
    case("addmv", lambda s, a, v: torch.addmv(s, a, v, beta=2, alpha=0.5), (5,), (5, 7), (7,))
    case("addmv_plain", torch.addmv, (5,), (5, 7), (7,))
    nan = torch.full((5,), float("nan"))
    case("addmv_no_beta", lambda s, a, v: torch.addmv(s, a, v, beta=0), nan, (5, 7), (7,))
    case("addr", lambda s, a, b: torch.addr(s, a, b, alpha=3), (5, 7), (5,), (7,))
    case("addbmm", lambda s, a, b: torch.addbmm(s, a, b, beta=0.5), (3, 5), (4, 3, 6), (4, 6, 5))
    case("bilinear", lambda m, a, b: F.bilinear(a, b, m.w, m.b), (2, 3, 4), (2, 3, 5),
         w=images(6, 4, 5), b=images(6))  # fmt: skip
    case("bilinear_no_bias", lambda m, a, b: F.bilinear(a, b, m.w), (3, 4), (3, 5),
         w=images(6, 4, 5))  # fmt: skip
    for rank in range(1, 6):
        shape = (2, 3, 4, 2, 5)[5 - rank :]
        case(f"linear_rank_{rank}", lambda m, x: F.linear(x, m.w, m.b), shape,
             w=images(7, 5), b=images(7))  # fmt: skip


def _experts() -> None:
    """Products with weights that an index picks; test_experts.py has more."""
    expert = torch.tensor([2, 0, -1, 2])

    def rows(m: Function, x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        return torch.bmm(m.w[e], x.unsqueeze(-1)).squeeze(-1)

    def columns(m: Function, x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        return torch.bmm(x.unsqueeze(1), m.w[e]).squeeze(1)

    case("experts", rows, (4, 7), expert, w=images(3, 5, 7))
    case("experts_transposed", columns, (4, 7), expert.int(), w=images(3, 7, 5))


def _einsum() -> None:
    equations: dict[str, tuple[tuple[int, ...], ...]] = {
        "ij,jk->ik": ((3, 4), (4, 5)),
        "ij,jk": ((3, 4), (4, 5)),
        "bhqd,bhkd->bhqk": ((2, 3, 4, 5), (2, 3, 6, 5)),
        "bqhd,bkhd->bhqk": ((2, 4, 3, 5), (2, 6, 3, 5)),
        "bhqk,bkhd->bqhd": ((2, 3, 4, 6), (2, 6, 3, 5)),
        "b i d, b j d -> b i j": ((2, 3, 4), (2, 5, 4)),
        "...ij,...jk->...ik": ((2, 1, 3, 4), (5, 4, 6)),
        "...ij->...ji": ((2, 3, 4),),
        "ij->ji": ((3, 4),),
        "ji": ((3, 4),),
        "ij->": ((3, 4),),
        "ijk->j": ((2, 3, 4),),
        "ii->i": ((4, 4),),
        "ii": ((4, 4),),
        "iij,jk->ik": ((3, 3, 4), (4, 5)),
        "i,j->ij": ((3,), (4,)),
        "i,i->": ((3,), (3,)),
        "ij,ij->i": ((3, 4), (3, 4)),
        "ij,kl->jl": ((3, 4), (2, 5)),
        "bi,oij,bj->bo": ((2, 3), (4, 3, 5), (2, 5)),
        "ij,jk,kl->il": ((2, 3), (3, 4), (4, 5)),
        "abc,cd,bde->ae": ((2, 3, 4), (4, 5), (3, 5, 6)),
        "nchw,cd->ndhw": ((2, 20, 4, 5), (20, 7)),
        "bchw,bkc->bkhw": ((2, 20, 4, 5), (2, 7, 20)),
        "bij,bij->b": ((2, 3, 4), (1, 3, 4)),
        "Ab,bC": ((2, 3), (3, 4)),
        "i...,i...->...": ((3, 2, 4), (3, 4)),
    }
    for equation, shapes in equations.items():
        name = equation.replace(" ", "")
        case(f"einsum_{name}", lambda *t, e=equation: torch.einsum(e, *t), *shapes)
        case(f"einsum_{name}_inside", lambda *t, e=equation: torch.einsum(e, *t) * 2, *shapes)
    case("einsum_image", lambda x: torch.einsum("nchw,nkhw->nck", x, F.relu(x)), (2, 5, 4, 3))


_products()
_experts()
_einsum()
