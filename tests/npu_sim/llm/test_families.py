"""Every family: logits and greedy tokens against transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from npu_sim.llm import LLM, UnusedTensorsWarning
from tests.npu_sim.llm.families import FAMILIES, MIXTURES, VOCABULARY, make_model, reference, save

# Crosses the windows (24), chunks and their padding.
PROMPT = [int(t) for t in np.random.default_rng(5).integers(2, VOCABULARY, 37)]
STEPS = 24
CHUNKS = (16,)


def distance(found: NDArray[np.float32], wanted: NDArray[np.float32], family: str = "") -> float:
    """Root of the mean squared difference.

    Of a mixture the worst sixteenth of the positions does not count: a token whose next best expert
    is as good as equal goes to another one after any rounding, transformers' or ours.
    """
    squares = np.sort(np.mean((found - wanted) ** 2, axis=1))
    kept = len(squares) - (len(squares) // 16 if family in MIXTURES else 0)
    return float(np.sqrt(squares[:kept].mean()))


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_in_float32_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    model = make_model(family)
    expected = model.generate(
        torch.tensor([PROMPT]), max_new_tokens=STEPS, do_sample=False, pad_token_id=0
    )[0, len(PROMPT) :].tolist()
    llm = LLM.from_pretrained(save(model, tmp_path), max_cache_len=96, chunks=CHUNKS, device="cpu")
    made = llm.generate(PROMPT, max_new_tokens=STEPS, stream=False)
    assert made.token_ids == expected
    tokens = PROMPT + expected
    np.testing.assert_allclose(
        llm.logits(tokens), reference(model, tokens, torch.float32), rtol=1e-3, atol=2e-4
    )


def decoded(llm: LLM, tokens: list[int]) -> NDArray[np.float32]:
    """Logits of the decode step, which is fed the tokens one by one."""
    engine = llm.engine()
    caches = engine.take_caches()
    steps = [engine.decode(caches, [[token]])[1].to_numpy(np.float32)[0, 0] for token in tokens]
    engine.give_back(caches)
    return np.array(steps)


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_is_as_close_to_float32_as_transformers_own(family: str, tmp_path: Path) -> None:
    """A prompt in chunks, and 64 decode steps."""
    model = make_model(family)
    # Weights that bfloat16 holds exactly: what differs is the computation.
    model.to(torch.bfloat16).to(torch.float32)
    folder = save(model, tmp_path, dtype="bfloat16")
    llm = LLM.from_pretrained(folder, max_cache_len=96, chunks=CHUNKS, device="cpu")
    assert llm.compute_dtype == "bfloat16"
    tokens = (PROMPT * 2)[:64]
    wanted = reference(model, tokens, torch.float32)
    own = reference(model, tokens, torch.bfloat16)
    for found in (llm.logits(PROMPT), decoded(llm, tokens)):
        count = len(found)
        limit = 1.2 * distance(own[:count], wanted[:count], family)
        assert distance(found, wanted[:count], family) <= limit


def test_the_language_model_of_several_parts(tmp_path: Path) -> None:
    """Gemma 3 with its vision tower, as its larger checkpoints have it."""
    text = make_model("gemma3")
    parts = {"vision_config": {"model_type": "siglip_vision_model"}, "model_type": "gemma3"}
    folder = save(text, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**parts, "text_config": config}))
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {
            **{f"language_model.{name}": tensor for name, tensor in tensors.items()},
            "vision_tower.head.weight": np.zeros(2, np.float32),
        },
        folder / "model.safetensors",
    )
    with pytest.warns(UnusedTensorsWarning, match="vision_tower"):
        llm = LLM.from_pretrained(folder, max_cache_len=96, chunks=CHUNKS, device="cpu")
    np.testing.assert_allclose(
        llm.logits(PROMPT), reference(text, PROMPT, torch.float32), rtol=1e-3, atol=2e-4
    )


# The sizes of Qwen2.5-1.5B, but for the number of layers and the vocabulary.
FULL_WIDTH = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
}


def test_bfloat16_at_full_width(tmp_path: Path) -> None:
    model = make_model("qwen2", **FULL_WIDTH)
    with torch.no_grad():
        # make_model's scale is for small matrices.
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.div_(3.0)
    model.to(torch.bfloat16).to(torch.float32)
    folder = save(model, tmp_path, dtype="bfloat16")
    tokens = (PROMPT * 4)[:128]
    wanted = reference(model, tokens, torch.float32)
    own = np.square(reference(model, tokens, torch.bfloat16) - wanted).mean(axis=1)
    prefill = LLM.from_pretrained(folder, max_cache_len=128, chunks=(128,), device="cpu")
    error = np.square(prefill.logits(tokens) - wanted).mean(axis=1)
    assert np.sqrt(error.mean()) <= 1.2 * np.sqrt(own.mean())
    decode = LLM.from_pretrained(folder, max_cache_len=128, chunks=(), device="cpu")
    error = np.square(decode.logits(tokens[:64]) - wanted[:64]).mean(axis=1)
    assert np.sqrt(error.mean()) <= 1.2 * np.sqrt(own[:64].mean())


@pytest.mark.parametrize("family", MIXTURES)
def test_a_mixture_copies_no_weights(family: str, tmp_path: Path) -> None:
    layers = 1
    folder = save(make_model(family, num_hidden_layers=layers), tmp_path)
    llm = LLM.from_pretrained(folder, max_cache_len=32, chunks=CHUNKS, device="cpu")
    for entry in ("prefill", "decode"):
        calls = llm.program.entry(entry).kernel_calls
        kernels = [call.kernel_name for call in calls]
        assert kernels.count("expert_linear") == 2 * layers
        # What is gathered are rows: of the embedding, of the last token, and in some versions of
        # transformers of each token for each of its experts.
        gathered = [call.operands[-1] for call in calls if call.kernel_name == "gather"]
        assert all(y is not None and np.prod(y.shape) <= 2 * 16 * 64 for y in gathered)
        if entry == "decode":
            assert len(kernels) == 15 * layers + 4


def test_dispatches_of_a_decode_step(tmp_path: Path) -> None:
    layers = 3
    folder = save(make_model("qwen2", num_hidden_layers=layers), tmp_path)
    llm = LLM.from_pretrained(folder, max_cache_len=32, chunks=(), device="cpu")
    # Six a layer; the embedding, the tables of the rotary embedding, the output layer, argmax.
    assert llm.program.entry("decode").record.dispatch_count == 6 * layers + 4
