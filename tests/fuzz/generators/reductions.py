"""Arguments of reductions whose schema leaves too much open."""

from __future__ import annotations

import torch

from tests.fuzz.registry import ORDERS, Call, generator
from tests.fuzz.sampler import Sampler


@generator("norm")
def _norm(s: Sampler) -> Call:
    x = s.float()
    overload = s.record.op_type.split(".")[2]
    args: list[object] = [x, s.pick(ORDERS)]
    if "dim" in overload:
        args += [s.dims(x.rank, least=1), s.chance()]
    return args, {"dtype": getattr(torch, s.float_dtype)} if overload.endswith("dtype") else {}


@generator("linalg_norm")
def _linalg_norm(s: Sampler) -> Call:
    x = s.float((1, 3))
    dims = s.dims(x.rank, least=1)[:1] if s.chance() or x.rank != 1 else None
    return [x, s.pick(ORDERS), dims, s.chance()], {}


@generator("rrelu")
def _rrelu(s: Sampler) -> Call:
    return [s.float(), 0.125, 0.5, False], {}


@generator("count_nonzero.dim_IntList")
def _count_nonzero(s: Sampler) -> Call:
    x = s.tensor()
    return [x, s.dims(x.rank)], {}
