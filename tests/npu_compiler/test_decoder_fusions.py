"""Decoder-only models: masks become positions, rotary tables are halved, and rotary embeddings and
cache updates are one dispatch.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

import transformers

from tests.npu_compiler.decoders import Decoder, inputs_for, tiny
from tests.npu_compiler.harness import Result, check, ir_of

ROWS = 33
FAMILIES: dict[str, dict[str, Any]] = {
    "Qwen2": {},
    "Qwen3": {"head_dim": 24},
    "Llama": {"num_key_value_heads": 4},
    "Mistral": {"sliding_window": 8},
    "Gemma2": {"sliding_window": 8, "head_dim": 16, "query_pre_attn_scalar": 16},
    "Gemma3": {"sliding_window": 8, "head_dim": 16, "query_pre_attn_scalar": 16},
    "Phi3": {},
    "Phi": {"partial_rotary_factor": 0.5},
    "Olmo2": {},
}
WINDOW = {"Gemma2": 8, "Gemma3": 8}


def decode(
    name: str, batch: int = 1, tokens: int = 1, *, donate: bool = True, **options: Any
) -> Result:
    """Compile, run and check one step of a small model."""
    model = tiny(name, **FAMILIES[name])
    inputs = inputs_for(model, batch, tokens, ROWS, torch.float32)
    decoder = Decoder(model, WINDOW.get(name, 0)).eval()
    names = [tensor["name"] for tensor in ir_of(decoder, inputs)["graph_inputs"]][3:]
    return check(decoder, *inputs, donate_inputs=names if donate else (), **options)


def count(result: Result) -> Counter[str]:
    return Counter(result.kernels)


@pytest.mark.parametrize("name", FAMILIES)
def test_one_dispatch_between_projections_and_attention(name: str) -> None:
    result = decode(name, devices=["cpu"])
    kernels = count(result)
    assert kernels["attention"] == kernels["rotary_cache"] == 2
    assert kernels["scatter"] == 0 and result.copies == 0
    # Between a projection (and its norm) and attention there is nothing else.
    for at, kernel in enumerate(result.kernels):
        if kernel == "attention":
            assert result.kernels[at - 1] == "rotary_cache"
            assert result.kernels[at - 2] in ("gemm", "linear", "row_norm")


@pytest.mark.parametrize(("batch", "tokens"), [(1, 1), (1, 5), (3, 1), (2, 4)])
def test_dispatches_of_a_step(batch: int, tokens: int) -> None:
    result = decode("Qwen2", batch, tokens, weights_in_place=True)
    kernels = count(result)
    assert kernels["rotary_cache"] == kernels["attention"] == 2
    # The tables of cosines and sines.
    assert kernels["elementwise"] == 1
    assert kernels.total() == 6 * 2 + 3
    assert not set(kernels) & {"scatter", "softmax"} and result.copies == 0


class MatrixRotary(torch.nn.Module):
    """Rotary tables from a product of matrices, as transformers up to 5.17 computes them."""

    def __init__(self, frequencies: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("frequencies", frequencies)

    def forward(
        self, x: torch.Tensor, position_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        column = self.frequencies[None, :, None].float().expand(position_ids.shape[0], -1, 1)
        angles = (column @ position_ids[:, None, :].float()).transpose(1, 2)
        both = torch.cat((angles, angles), dim=-1)
        return both.cos().to(x.dtype), both.sin().to(x.dtype)


def test_tables_from_a_product_of_matrices() -> None:
    model = tiny("Qwen2")
    model.model.rotary_emb = MatrixRotary(model.model.rotary_emb.inv_freq)
    inputs = inputs_for(model, 2, 3, ROWS, torch.float32)
    decoder = Decoder(model).eval()
    names = [tensor["name"] for tensor in ir_of(decoder, inputs)["graph_inputs"]][3:]
    result = check(decoder, *inputs, donate_inputs=names, weights_in_place=True)
    assert count(result).total() == 6 * 2 + 3


def test_caches_that_are_not_donated_are_copied_first() -> None:
    result = decode("Qwen2", 1, 3, donate=False)
    assert count(result)["rotary_cache"] == 2 and result.copies <= 8


@pytest.mark.parametrize("name", ["Qwen2", "Olmo2"])
def test_bfloat16(name: str) -> None:
    """Olmo 2 turns its heads in float32 and rounds them afterwards."""
    model = tiny(name).to(torch.bfloat16)
    inputs = inputs_for(model, 2, 3, ROWS, torch.bfloat16)
    result = check(Decoder(model).eval(), *inputs, compute_dtype="bfloat16")
    assert count(result)["rotary_cache"] == 2


def test_norms_of_one_and_a_weight_are_part_of_products() -> None:
    """Gemma's."""
    model = tiny("Gemma", head_dim=16).to(torch.bfloat16)
    inputs = inputs_for(model, 1, 1, ROWS, torch.bfloat16)
    decoder = Decoder(model).eval()
    names = [tensor["name"] for tensor in ir_of(decoder, inputs)["graph_inputs"]][3:]
    options: dict[str, Any] = {"donate_inputs": names, "weights_in_place": True}
    kernels = count(check(decoder, *inputs, compute_dtype="bfloat16", devices=["cpu"], **options))
    assert not kernels["row_norm"] and kernels["linear"] == 4 * 2 + 1
    # The embedding's factor, the tables, in some versions a conversion of the frequencies.
    assert kernels["elementwise"] <= 3


class StaticStep(torch.nn.Module):
    """A step with transformers' own StaticCache (batch, heads, rows, size) and its own masks."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, tokens: torch.Tensor, positions: torch.Tensor, *caches: torch.Tensor
    ) -> list[torch.Tensor]:
        cache = transformers.StaticCache(self.model.config, max_cache_len=ROWS)
        for index, layer in enumerate(cache.layers):
            layer.keys, layer.values = caches[2 * index : 2 * index + 2]
            layer.device, layer.is_initialized = tokens.device, True
            layer.cumulative_length = positions[0, 0].clone()
        result = self.model(
            input_ids=tokens, position_ids=positions, past_key_values=cache, use_cache=True
        )
        return [result.logits, *(t for layer in cache.layers for t in (layer.keys, layer.values))]


@pytest.mark.parametrize(
    ("batch", "tokens", "attention", "name"),
    [
        (1, 1, "sdpa", "Qwen2"),
        (1, 5, "sdpa", "Qwen2"),
        (2, 1, "sdpa", "Qwen2"),
        (4, 2, "sdpa", "Qwen2"),
        (1, 1, "eager", "Qwen2"),
        (1, 3, "sdpa", "Llama"),
    ],
)
def test_transformers_static_cache(batch: int, tokens: int, attention: str, name: str) -> None:
    model = tiny(name, **FAMILIES[name], attn_implementation=attention)
    ids, _, _, *caches = inputs_for(model, batch, tokens, ROWS, torch.float32)
    caches = [c.transpose(1, 2).contiguous() for c in caches]
    positions = torch.arange(7, 7 + tokens).expand(batch, tokens).contiguous()
    step, inputs = StaticStep(model).eval(), (ids, positions, *caches)
    names = [tensor["name"] for tensor in ir_of(step, inputs)["graph_inputs"]][2:]
    result = check(step, *inputs, donate_inputs=names, weights_in_place=True)
    kernels = count(result)
    assert kernels["attention"] == 2 and result.copies == 0
    assert kernels["rotary_cache"] == 2 and not kernels["scatter"]
    # The tables of cosines and sines; rows that follow the first one's.
    assert kernels["elementwise"] == (1 if tokens == 1 else 2)
    assert kernels.total() == 6 * 2 + 3 + (tokens > 1)
