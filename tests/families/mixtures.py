"""Families of `transformers` with experts or state: MoE, state-space, hybrids, static caches."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .family import Family, Inputs
from .hf import LAST_BIT, TEXT, hf, ids, make_model, tokens

GROUPED = {**TEXT, "num_key_value_heads": 2}
EXPERTS = {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
STATE = {
    "vocab_size": TEXT["vocab_size"],
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "state_size": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

MOE = [
    hf("Mixtral", "moe", "MixtralForCausalLM", tokens(), GROUPED, num_local_experts=4, fast=True),
    hf(
        "Qwen2-MoE",
        "moe",
        "Qwen2MoeForCausalLM",
        tokens(),
        EXPERTS,
        shared_expert_intermediate_size=16,
    ),
    hf("Qwen3-MoE", "moe", "Qwen3MoeForCausalLM", tokens(), EXPERTS, head_dim=8),
    hf("OLMoE", "moe", "OlmoeForCausalLM", tokens(), EXPERTS),
    hf(
        "gpt-oss",
        "moe",
        "GptOssForCausalLM",
        tokens(),
        GROUPED,
        num_local_experts=4,
        head_dim=8,
        sliding_window=4,
    ),
    hf(
        "DeepSeek-V3",
        "moe",
        "DeepseekV3ForCausalLM",
        tokens(),
        TEXT,
        num_key_value_heads=4,
        n_routed_experts=4,
        n_group=2,
        topk_group=1,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        first_k_dense_replace=1,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
    ),
]

STATE_SPACE = [
    hf("Mamba", "state-space", "MambaForCausalLM", tokens(mask=False), STATE, fast=True),
    hf(
        "Mamba-2",
        "state-space",
        "Mamba2ForCausalLM",
        tokens(mask=False),
        STATE,
        num_heads=8,
        head_dim=8,
        expand=2,
        n_groups=2,
        chunk_size=4,
    ),
    hf("FalconMamba", "state-space", "FalconMambaForCausalLM", tokens(mask=False), STATE),
    hf(
        "RWKV", "state-space", "RwkvForCausalLM", tokens(mask=False), TEXT, attention_hidden_size=32
    ),
    hf(
        "Jamba",
        "state-space",
        "JambaForCausalLM",
        tokens(mask=False),
        GROUPED,
        num_experts=2,
        use_mamba_kernels=False,
        mamba_d_state=8,
        attn_layer_period=2,
        attn_layer_offset=1,
    ),
    hf(
        "RecurrentGemma",
        "state-space",
        "RecurrentGemmaForCausalLM",
        tokens(mask=False),
        GROUPED,
        lru_width=32,
        attention_window_size=8,
        num_hidden_layers=3,
    ),
    hf(
        "LFM2",
        "state-space",
        "Lfm2ForCausalLM",
        tokens(mask=False),
        GROUPED,
        layer_types=["conv", "full_attention"],
    ),
    hf(
        "Qwen3-Next",
        "state-space",
        "Qwen3NextForCausalLM",
        tokens(mask=False),
        EXPERTS,
        tolerance=LAST_BIT,
        head_dim=8,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        shared_expert_intermediate_size=16,
        layer_types=["linear_attention", "full_attention"],
    ),
    hf(
        "Bamba",
        "state-space",
        "BambaForCausalLM",
        tokens(mask=False),
        GROUPED,
        attn_layer_indices=[1],
        mamba_n_heads=8,
        mamba_d_head=8,
        mamba_d_state=8,
        mamba_chunk_size=4,
    ),
]


class StaticDecode(nn.Module):
    """One decoding step with key and value caches of fixed length, kept in buffers.

    Args: input ids (1, 1) and the position (1,) of this token. Returns logits (1, 1, vocabulary).
    """

    def __init__(self, model: nn.Module, length: int) -> None:
        from transformers import StaticCache

        super().__init__()
        config: Any = model.config
        self.model = model
        self.cache = StaticCache(config=config, max_cache_len=length)
        heads, width = config.num_key_value_heads, config.hidden_size // config.num_attention_heads
        weight = next(model.parameters())
        self.cache.early_initialization(1, heads, width, weight.dtype, weight.device)
        for index, layer in enumerate(self.cache.layers):
            self.register_buffer(f"key_{index}", layer.keys)
            self.register_buffer(f"value_{index}", layer.values)

    def forward(self, input_ids: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        for index, layer in enumerate(self.cache.layers):
            layer.keys = self.get_buffer(f"key_{index}")
            layer.values = self.get_buffer(f"value_{index}")
            layer.cumulative_length = position[0].clone()
        out = self.model(
            input_ids=input_ids,
            position_ids=position.unsqueeze(0),
            past_key_values=self.cache,
            use_cache=True,
        )
        logits: torch.Tensor = out.logits
        return logits


def _decode() -> tuple[nn.Module, Inputs]:
    """The sixth step: five tokens lie in the cache."""
    model = make_model("Qwen2ForCausalLM", {**GROUPED, "tie_word_embeddings": True})
    decode = StaticDecode(model, 16)
    for buffer in decode.buffers():
        if buffer.dim() == 4:
            buffer[:, :, :5].normal_()
    return decode, (ids(1, 1), torch.tensor([5]))


DECODE = Family(
    "Qwen2, static cache",
    "decoder",
    "Qwen2ForCausalLM",
    _decode,
    "transformers",
    fast=True,
    tolerance=LAST_BIT,
)

FAMILIES: list[Family] = [DECODE, *MOE, *STATE_SPACE]
