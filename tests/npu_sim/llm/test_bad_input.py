"""What is wrong with a model directory, a prompt or an option is said by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from npu_compiler.errors import NpuError
from npu_runtime.errors import FileError, WeightError
from npu_sim.errors import UsageError
from npu_sim.llm import (
    LLM,
    CacheFullError,
    ModelFilesError,
    PromptError,
    UnsupportedModelError,
    UnusedTensorsWarning,
)
from npu_sim.llm.attention import attention_at, position_mask
from tests.npu_sim.llm.families import VOCABULARY, make_model, save

LIMIT = 24
Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two shards and more."""
    return save(make_model("qwen2"), tmp_path_factory.mktemp("qwen2"), shard="60KB")


@pytest.fixture(scope="module")
def llm(folder: Path, program_folder: Path) -> LLM:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NPU_SIM_CACHE_DIR", str(program_folder))
        return LLM.from_pretrained(folder, device="cpu", max_cache_len=LIMIT, chunks=(8,))


def _config(**changes: Any) -> Change:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        config = {**json.loads(file.read_text()), **changes}
        file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))

    return change


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _cut(folder: Path) -> None:
    shard = _shards(folder)[0]
    shard.write_bytes(shard.read_bytes()[:-100])


def _integers(folder: Path) -> None:
    for shard in _shards(folder):
        save_file({k: v.astype(np.int32) for k, v in load_file(shard).items()}, shard)


BROKEN: dict[str, tuple[Change, type[NpuError], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), ModelFilesError, "no config.json"),
    "config is no JSON": (
        lambda f: (f / "config.json").write_text("{") and None,
        ModelFilesError,
        "config.json: cannot be read as JSON",
    ),
    "no model_type": (_config(model_type=None), ModelFilesError, "no model_type"),
    "missing shard": (lambda f: _shards(f)[1].unlink(), FileError, "model-00002"),
    "damaged shard": (_cut, FileError, "model-00001"),
    "unknown architecture": (
        _config(model_type="frobnicator"),
        UnsupportedModelError,
        "frobnicator",
    ),
    "no language model": (
        _config(model_type="vit"),
        UnsupportedModelError,
        "vit: transformers has no causal language model",
    ),
    "encoder-decoder": (_config(model_type="t5"), UnsupportedModelError, "t5"),
    "unknown layers": (
        _config(layer_types=["linear_attention", "full_attention"], use_sliding_window=None),
        UnsupportedModelError,
        "linear_attention",
    ),
    "quantised": (
        _config(quantization_config={"quant_method": "gptq", "bits": 4}),
        UnsupportedModelError,
        "quantised weights",
    ),
    "other dtype": (_config(dtype="float8_e4m3fn"), UnsupportedModelError, "float8_e4m3fn"),
    "more layers": (_config(num_hidden_layers=3, layer_types=None), ModelFilesError, "layers.2"),
    "layers without end": (
        _config(num_hidden_layers=20_000, layer_types=None),
        ModelFilesError,
        "says 20000 layers",
    ),
    "vocabulary beyond memory": (_config(vocab_size=10**9), WeightError, "'model.embed_tokens"),
    "no vocabulary": (_config(vocab_size=0), UnsupportedModelError, "vocab_size 0"),
    "fewer than no layers": (
        _config(num_hidden_layers=-1, layer_types=None),
        UnsupportedModelError,
        r"`?num_hidden_layers`? \(?-1",
    ),
    "unknown activation": (_config(hidden_act="nosuch"), UnsupportedModelError, "'nosuch'"),
    "not a number": (_config(hidden_size="wide"), UnsupportedModelError, "expected int, got str"),
    "no positions": (
        _config(max_position_embeddings=-1),
        ModelFilesError,
        "max_position_embeddings -1",
    ),
    "code of its own": (
        _config(model_type="frob", auto_map={"AutoConfig": "x.Y"}),
        UnsupportedModelError,
        "'frob': not among.*auto_map. is not run",
    ),
    "integers for weights": (_integers, WeightError, "has dtype int32, not"),
    "other width": (_config(intermediate_size=128), WeightError, "has shape"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_directory(case: str, folder: Path, tmp_path: Path) -> None:
    change, error, text = BROKEN[case]
    broken = tmp_path / "model"
    shutil.copytree(folder, broken)
    change(broken)
    with pytest.raises(error, match=text):
        LLM.from_pretrained(broken, device="cpu", max_cache_len=LIMIT, chunks=())


def test_tensors_that_the_model_does_not_use(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "model"
    shutil.copytree(folder, other)
    extra = {f"model.layers.{n}.mlp.extra.weight": np.zeros(2, np.float32) for n in range(7)}
    known = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(8, np.float32)}
    save_file({**extra, **known}, other / "extra.safetensors")
    index = other / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] |= dict.fromkeys((*extra, *known), "extra.safetensors")
    index.write_text(json.dumps(content))
    with pytest.warns(UnusedTensorsWarning, match=r"7 tensors.*layers\.4\S* and 2 more") as found:
        LLM.from_pretrained(other, device="cpu", max_cache_len=LIMIT, chunks=())
    assert len(found) == 1 and "inv_freq" not in str(found[0].message)


# Model types that share names with those that run, and what of them cannot.
UNSUPPORTED: dict[str, tuple[dict[str, Any], str]] = {
    "bloom": ({}, "0 of 2 layers let their attention be exchanged"),
    "falcon": ({}, "attention of a model's own"),
    "gpt_oss": ({"num_local_experts": 2, "head_dim": 16}, "attention of GptOssAttention: s_aux"),
    "bert": ({}, "bidirectional"),
    "mamba": ({}, "no num_attention_heads"),
    "llama4_text": ({"num_local_experts": 2}, "chunked_attention"),
}


@pytest.mark.parametrize("model_type", UNSUPPORTED)
def test_what_cannot_run_is_said_by_name(model_type: str, tmp_path: Path) -> None:
    own, text = UNSUPPORTED[model_type]
    sizes = {"vocab_size": 16, "hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {} if model_type == "mamba" else {"num_attention_heads": 4}
    config = transformers.AutoConfig.for_model(model_type, **sizes, **heads, **own)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match=f"^{model_type}: .*{text}"):
        LLM.from_pretrained(tmp_path, device="cpu", max_cache_len=LIMIT, chunks=())


def test_an_attention_mask_of_its_own() -> None:
    from transformers.masking_utils import (
        and_masks,
        causal_mask_function,
        sliding_window_causal_mask_function,
    )

    def masked(function: Any, window: int | None) -> torch.Tensor:
        with attention_at(torch.tensor([[3]])):
            return position_mask(kv_length=6, mask_function=function, local_size=window)[0, 0]

    assert masked(causal_mask_function, None).tolist() == [[True] * 4 + [False] * 2]
    sliding = masked(sliding_window_causal_mask_function(2), 2)
    assert sliding.tolist() == [[False, False, True, True, False, False]]
    odd = and_masks(causal_mask_function, lambda b, h, q, k: k % 2 == 0)
    for function, window in ((odd, None), (sliding_window_causal_mask_function(3), 2), (odd, 2)):
        with pytest.raises(UnsupportedModelError, match="mask of the model's own"):
            masked(function, window)


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match="no such directory"):
        LLM.from_pretrained(tmp_path / "nothing")


def test_ropes_that_depend_on_the_length(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "model"
    shutil.copytree(folder, broken)
    ropes = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    _config(rope_parameters={**ropes, "original_max_position_embeddings": 16})(broken)
    with pytest.raises(UnsupportedModelError, match="max_cache_len=16"):
        LLM.from_pretrained(broken, device="cpu", max_cache_len=LIMIT, chunks=())


@pytest.mark.parametrize(
    ("prompt", "error", "text"),
    [
        ("", PromptError, "empty"),
        ([], PromptError, "empty"),
        ([VOCABULARY], PromptError, f"outside the vocabulary of {VOCABULARY}"),
        ([-1], PromptError, "-1"),
        ([5] * (LIMIT + 1), CacheFullError, f"{LIMIT + 1} tokens, the KV cache holds {LIMIT}"),
        (["fine", ""], PromptError, "empty"),
        (None, PromptError, "of type NoneType"),
        (7, PromptError, "the prompt 7 "),
        ([1.5, 2], PromptError, "of type float"),
        ([["a"]], PromptError, "of type list"),
        ({"input_ids": [5]}, PromptError, "of type dict"),
        ([{"input_ids": [5]}], PromptError, "of type dict"),
        (b"fox", PromptError, "of type bytes"),
        (np.array(5), PromptError, "of type ndarray"),
        ("\ud800", PromptError, "no Unicode"),
    ],
)
def test_prompts(llm: LLM, prompt: Any, error: type[NpuError], text: str) -> None:
    with pytest.raises(error, match=text):
        llm.generate(prompt)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"max_new_tokens": 0},
        {"max_new_tokens": 2.5},
        {"top_k": 2.5},
        {"seed": -1},
        {"stop": ""},
        {"stop": 5},
        {"stop": ["a", 5]},
        {"temperature": "hot"},
        {"top_p": None},
    ],
)
def test_options(llm: LLM, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        llm.generate("fox", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"compute_dtype": "float8"},
        {"max_cache_len": 0},
        {"max_cache_len": 10**6},
        {"max_cache_len": "64"},
        {"chunks": 8},
        {"chunks": (1.5,)},
        {"chunks": (0,)},
        {"weight_dtype": "int4"},
    ],
)
def test_loading_options(folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        LLM.from_pretrained(folder, device="cpu", **options)


def test_cache_full_during_generation(llm: LLM) -> None:
    prompt = [5] * (LIMIT - 3)
    texts = llm.generate(prompt, max_new_tokens=10)
    with pytest.raises(CacheFullError, match="max_cache_len"):
        texts.finish()
    # A token for each row that was left, and the one that follows the last of them.
    assert len(texts.generations[0].token_ids) == 4
    fits = llm.generate(prompt, max_new_tokens=4, stream=False)
    assert fits.token_ids == texts.generations[0].token_ids
    assert fits.finish_reason == "length"
    # Without a wish, the text ends where the cache does.
    assert llm.generate(prompt, stream=False) == fits


def test_no_tokenizer(folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "model"
    shutil.copytree(folder, bare)
    (bare / "tokenizer.json").unlink()
    llm = LLM.from_pretrained(bare, device="cpu", max_cache_len=LIMIT, chunks=(8,))
    assert len(llm.generate([5, 6], 3, stream=False).token_ids) == 3
    with pytest.raises(ModelFilesError, match=r"no tokenizer\.json"):
        llm.generate("text")
    with pytest.raises(ModelFilesError, match=r"no tokenizer\.json"):
        llm.generate([5], stop="x")


def test_end_tokens_that_are_none(folder: Path, tmp_path: Path) -> None:
    odd = tmp_path / "model"
    shutil.copytree(folder, odd)
    (odd / "generation_config.json").write_text('{"eos_token_id": [1, "end"]}')
    with pytest.raises(ModelFilesError, match=r"generation_config.json: eos_token_id \[1, 'end'\]"):
        LLM.from_pretrained(odd, device="cpu", max_cache_len=LIMIT, chunks=(8,))


def test_no_chat_template(llm: LLM) -> None:
    with pytest.raises(PromptError, match="no chat template"):
        llm.chat([{"role": "user", "content": "hello"}])
    for messages in ("hello", ["hello"], None):
        with pytest.raises(PromptError, match="a list of messages"):
            llm.chat(messages)  # type: ignore[arg-type]
