"""Writes a checkpoint as a GGUF file, which llama.cpp reads: float weights, or Q8_0."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import quantize

from npu_sim.errors import NpuSimError
from npu_sim.llm.model_files import ModelFiles

# model_type -> what GGUF calls the architecture; those whose weights are stored as they are.
_ARCHITECTURES = {"qwen2": gguf.MODEL_ARCH.QWEN2, "qwen3": gguf.MODEL_ARCH.QWEN3}
_FLOATS = {
    "bfloat16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "float16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "float32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
}
_INT8 = (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0)


def write_gguf(folder: Path, path: Path, int8: bool) -> None:
    """Write the model of a Hugging Face directory, without its vocabulary.

    ``int8``: matrices as Q8_0 (8 bits, a scale for every 32). Raises NpuSimError for architectures
    that need more than other names.
    """
    files = ModelFiles(folder)
    config = files.config
    if config["model_type"] not in _ARCHITECTURES:
        raise NpuSimError(
            f"no comparison for model_type {config['model_type']}: GGUF is written of "
            f"{', '.join(_ARCHITECTURES)}"
        )
    architecture = _ARCHITECTURES[config["model_type"]]
    matrix, file_type = _INT8 if int8 else _FLOATS[files.dtype]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    _write_settings(writer, config, file_type)
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    tensors: list[tuple[str, Any]] = []
    for name in sorted(files.tensors.names()):
        shape, _ = files.tensors.describe(name)
        kind = matrix if len(shape) > 1 else gguf.GGMLQuantizationType.F32
        called = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if called is None:
            raise NpuSimError(f"no comparison: GGUF has no name for the tensor {name}")
        stored = gguf.quant_shape_to_byte_shape(shape, kind)
        writer.add_tensor_info(called, stored, np.dtype(np.uint8), _count(stored), kind)
        tensors.append((name, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, kind in tensors:
        writer.write_tensor_data(_stored(files.tensors.get(name), kind))
    writer.close()


def _write_settings(writer: Any, config: dict[str, Any], file_type: Any) -> None:
    writer.add_file_type(file_type)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    if config.get("head_dim"):
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    rope = config.get("rope_parameters") or config
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")


def _count(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _stored(array: Any, kind: Any) -> Any:
    """The array's bytes in the file's form."""
    if kind == gguf.GGMLQuantizationType.F32:
        return np.ascontiguousarray(array, np.float32)
    if kind == gguf.GGMLQuantizationType.Q8_0:
        return quantize(np.ascontiguousarray(array, np.float32), kind)
    return np.ascontiguousarray(array).view(np.uint8)
