"""Tiny random models of decoder-only families, saved as Hugging Face directories."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn

VOCABULARY = 300
END_TOKEN = 1
# What all families have in common; names that a configuration does not know are left out.
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 192,
    "bos_token_id": 0,
    "eos_token_id": END_TOKEN,
    "pad_token_id": None,
}
_MIXTURE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LAYERS = ["sliding_attention", "full_attention"]
# Those of FAMILIES that are mixtures of experts.
MIXTURES = ("qwen3_moe", "mixtral")
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {"head_dim": 24}),
    "llama2": ("LlamaConfig", {"num_key_value_heads": 4}),
    "llama3": (
        "LlamaConfig",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            }
        },
    ),
    "mistral": ("MistralConfig", {"sliding_window": 24}),
    "gemma": ("GemmaConfig", {"head_dim": 16, "hidden_activation": "gelu_pytorch_tanh"}),
    "gemma2": (
        "Gemma2Config",
        {
            "head_dim": 16,
            "sliding_window": 24,
            "layer_types": _LAYERS,
            "attn_logit_softcapping": 20.0,
            "final_logit_softcapping": 10.0,
        },
    ),
    "gemma3": (
        "Gemma3TextConfig",
        {"head_dim": 16, "sliding_window": 24, "layer_types": _LAYERS},
    ),
    "phi3": ("Phi3Config", {}),
    "smollm3": ("SmolLM3Config", {"no_rope_layers": [1, 0]}),
    "olmo": ("OlmoConfig", {"clip_qkv": 2.0}),
    "olmo2": ("Olmo2Config", {}),
    "gpt2": ("GPT2Config", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 192}),
    "qwen3_moe": ("Qwen3MoeConfig", _MIXTURE),
    "mixtral": ("MixtralConfig", {"num_local_experts": 6, "num_experts_per_tok": 2}),
}
# Names of SIZES that a configuration calls by its own.
_OWN_NAMES = {
    "gpt2": ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
}


def make_model(family: str, seed: int = 7, **settings: Any) -> Any:
    """A float32 model with trained-like random weights: norms off one, logits that differ."""
    _quiet()
    name, own = FAMILIES[family]
    left_out = (*_OWN_NAMES.get(family, ()), *own)
    sizes = {key: value for key, value in SIZES.items() if key not in left_out}
    config = getattr(transformers, name)(**{**sizes, **own, **settings})
    config.dtype = torch.float32
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.mul_(3.0)
    return model.requires_grad_(False)


def reference(model: Any, tokens: list[int], dtype: torch.dtype) -> NDArray[np.float32]:
    """Logits of transformers, eager attention, as float32."""
    copy = model if dtype == torch.float32 else deepcopy(model).to(dtype)
    found: NDArray[np.float32] = copy(torch.tensor([tokens])).logits[0].float().numpy()
    return found


def save(model: nn.Module, folder: Path, *, shard: str = "5GB", dtype: str = "float32") -> Path:
    """Write a model directory with a tokenizer; ``dtype`` is what config.json declares."""
    _quiet()
    model.save_pretrained(folder, max_shard_size=shard)  # type: ignore[operator]
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = dtype
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path, settings: Mapping[str, Any] | None = None) -> None:
    """A byte-level BPE tokenizer of VOCABULARY tokens: <s>, </s>, bytes, a few merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog. "] * 20, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(dict(settings)))


def _quiet() -> None:
    transformers.utils.logging.set_verbosity(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
