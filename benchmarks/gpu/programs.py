"""Writes the programs that benchmarks/gpu measures; no weights are needed for that.

    python benchmarks/gpu/programs.py DIR [--rows 4096] [--dtype bfloat16] [--weights int8]

DIR/qwen2.5-1.5b.npubin (entry points prefill: 128 tokens, prefill_32, prefill_8, decode) and
DIR/resnet50.npubin. Needs PyTorch and transformers; then, where the GPU is:

    python benchmarks/gpu/dispatches.py DIR/qwen2.5-1.5b.npubin --entry decode --input pos=4000
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import tempfile
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import npu_compiler  # noqa: E402
from npu_compiler.compiled_program import CompiledProgram  # noqa: E402
from npu_sim.bench.language.models import LANGUAGE_MODELS  # noqa: E402
from npu_sim.llm.model_files import ModelFiles  # noqa: E402
from npu_sim.llm.programs import Options, ProgramBuilder  # noqa: E402
from npu_sim.models import random_images, resnet50, trained_like  # noqa: E402
from torch_ir import extract_ir  # noqa: E402


def write_hollow_model(name: str, folder: Path) -> None:
    """A model directory whose weights are zeros that take no room on the disk."""
    config = transformers.AutoConfig.for_model(**LANGUAGE_MODELS[name], dtype="bfloat16")
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    header: dict[str, object] = {}
    at = 0
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        end = at + 2 * tensor.numel()
        header[key] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)


def language_model(
    name: str, rows: int, dtype: str = "bfloat16", weights: str | None = None
) -> CompiledProgram:
    """The steps of a language model by name; ``rows``: of its cache, ``weights``: their dtype."""
    with tempfile.TemporaryDirectory() as folder:
        write_hollow_model(name, Path(folder))
        builder = ProgramBuilder(ModelFiles(folder), lambda *_: None)
        return builder.generating(Options(1, rows, dtype, weights))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=4096, help="of the language model's cache")
    parser.add_argument("--dtype", default="bfloat16", help="that the language model computes in")
    parser.add_argument("--weights", help="dtype of the language model's weights: int8")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    name = "qwen2.5-1.5b"
    program = language_model(name, options.rows, options.dtype, options.weights)
    suffix = "" if options.weights is None else f"-{options.weights}"
    program.save(options.folder / f"{name}{suffix}.npubin")
    ir = extract_ir(trained_like(resnet50()), (random_images(1),), model_name="resnet50")
    npu_compiler.compile(ir.to_dict()).save(options.folder / "resnet50.npubin")


if __name__ == "__main__":
    main()
