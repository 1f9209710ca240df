"""Language models that are known by name, written with random weights: time and memory depend on
shapes alone, and full-size weights are not always at hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from npu_sim.extras import require

_QWEN = {
    "model_type": "qwen2",
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
# Configurations as published with the models (https://huggingface.co/Qwen).
LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "qwen2.5-0.5b": {
        **_QWEN,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
    "qwen2.5-1.5b": {
        **_QWEN,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
    },
}
# Bytes of a file of weights.
_SHARD_BYTES = 1 << 30
# Random values that are repeated; prime, so that no two rows of a matrix are alike.
_PERIOD = 1_000_003


def write_random_model(name: str, folder: Path, layers: int | None = None) -> None:
    """Write a model as a Hugging Face directory with bfloat16 weights drawn at random (standard
    deviation 0.02, norms near 1), unless it is there already. ``layers``: fewer than it has.
    """
    if (folder / "model.safetensors.index.json").exists():
        return
    torch = require("torch", "a model with random weights")
    transformers = require("transformers", "a model with random weights")
    from safetensors.torch import save_file

    settings = dict(LANGUAGE_MODELS[name])
    if layers is not None:
        settings["num_hidden_layers"] = layers
    config = transformers.AutoConfig.for_model(**settings, dtype="bfloat16")
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    folder.mkdir(parents=True, exist_ok=True)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    values = torch.randn(_PERIOD, generator=torch.Generator().manual_seed(1)).bfloat16()
    shards: list[dict[str, Any]] = [{}]
    filled, at = 0, 0
    tied = "lm_head.weight" if config.tie_word_embeddings else None
    for key, parameter in model.state_dict().items():
        if key == tied:
            continue
        count = parameter.numel()
        if filled + 2 * count > _SHARD_BYTES and shards[-1]:
            shards.append({})
            filled = 0
        repeats = -(-(count + at) // _PERIOD)
        flat = values.repeat(repeats)[at : at + count] * 0.02
        at = (at + count) % _PERIOD
        if key.endswith("norm.weight"):
            flat = flat + 1
        shards[-1][key] = flat.view(parameter.shape).contiguous()
        filled += 2 * count
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / file)
        places |= dict.fromkeys(shard, file)
    _write_index(folder, places)


def _write_index(folder: Path, places: dict[str, str]) -> None:
    import json

    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
