"""Building blocks for records of `transformers` models: inputs, and models from configurations.

Nothing is downloaded, and torchvision, which `transformers` does not need for this, is not used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .family import Family, Inputs

VOCABULARY = 99
# Sizes that most text configurations call by these names.
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Sizes of vision transformers for images of 32x32 pixels.
IMAGE = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
# Sizes of the models that read a waveform.
WAVE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "conv_dim": (16, 16, 16),
    "conv_stride": (4, 4, 2),
    "conv_kernel": (8, 4, 2),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
# Sizes of encoder-decoders in the names of BART.
BART = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
}

# For models whose code takes another path while it is traced than it takes in eager mode; the IR
# agrees bit by bit with the exported program.
LAST_BIT = 1e-6

MakeInputs = Callable[[], dict[str, Any]]


def ids(batch: int = 2, length: int = 9) -> Tensor:
    """Token ids (batch, length) without special ones."""
    return torch.randint(3, VOCABULARY, (batch, length))


def tokens(batch: int = 2, length: int = 9, mask: bool = True, **more: Any) -> MakeInputs:
    """Token ids and a mask that hides the last two tokens of the last row."""

    def make() -> dict[str, Any]:
        inputs: dict[str, Any] = {"input_ids": ids(batch, length)}
        if mask:
            hidden = torch.ones(batch, length, dtype=torch.int64)
            hidden[-1, -2:] = 0
            inputs["attention_mask"] = hidden
        return {**inputs, **more}

    return make


def pair() -> dict[str, Any]:
    """Tokens for the encoder and for the decoder."""
    return {**tokens()(), "decoder_input_ids": ids(2, 5)}


def pixels(size: int = 32, channels: int = 3, batch: int = 1, frames: int = 0) -> MakeInputs:
    """Pixel values (batch, [frames,] channels, size, size)."""
    shape = (batch, *([frames] if frames else []), channels, size, size)
    return lambda: {"pixel_values": torch.randn(shape)}


def floats(**shapes: tuple[int, ...]) -> MakeInputs:
    """Normally distributed float32 tensors by argument name."""
    return lambda: {name: torch.randn(shape) for name, shape in shapes.items()}


def both(*parts: MakeInputs) -> MakeInputs:
    """The inputs of all parts."""
    return lambda: {name: value for part in parts for name, value in part().items()}


def make_model(model: str, settings: dict[str, Any]) -> nn.Module:
    """A model of class ``model`` from its configuration class with ``settings``; a setting that is
    a dict may name the class of a sub-configuration as ``"class"``.
    """
    import transformers

    def configuration(cls: Any, values: dict[str, Any]) -> Any:
        nested = {
            name: configuration(getattr(transformers, value["class"]), value)
            for name, value in values.items()
            if isinstance(value, dict) and "class" in value
        }
        return cls(
            **{name: value for name, value in {**values, **nested}.items() if name != "class"}
        )

    cls = getattr(transformers, model)
    config = configuration(cls.config_class, settings)
    for part in (config, *(value for value in vars(config).values() if hasattr(value, "to_dict"))):
        if hasattr(part, "use_cache"):
            # Caches that grow are lists of Python objects; the decode family has a static one.
            part.use_cache = False
    return cls(config)  # type: ignore[no-any-return]


def hf(
    name: str,
    kind: str,
    model: str,
    inputs: MakeInputs,
    *base: dict[str, Any],
    fast: bool = False,
    blocked: tuple[str, str] | None = None,
    tolerance: float = 0.0,
    **settings: Any,
) -> Family:
    """A record of a `transformers` model: later settings win over earlier ones."""
    merged: dict[str, Any] = {}
    for part in (*base, settings):
        merged |= part

    def make() -> tuple[nn.Module, Inputs]:
        return make_model(model, merged), inputs()

    return Family(name, kind, model, make, "transformers", fast, blocked, tolerance)
