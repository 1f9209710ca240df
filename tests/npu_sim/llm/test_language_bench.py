"""npu-sim bench with language models, and their int8 weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from npu_sim.bench.language import peers
from npu_sim.bench.language.models import LANGUAGE_MODELS, write_random_model
from npu_sim.bench.language.peers import PEERS, load_peers
from npu_sim.bench.language.settings import Settings
from npu_sim.bench.language.stepper import OwnStepper, weight_bytes_per_token
from npu_sim.cli import app
from npu_sim.extras import installed
from npu_sim.llm import LLM
from tests.npu_sim.llm.families import make_model, save

KEYS = (
    "dispatches_per_token",
    "ms_per_token_median",
    "read_gb_s",
    "bandwidth_share",
    "ttft_ms",
    "prefill_tokens_per_s",
    "peak_rss_bytes",
    "extract_s",
    "compile_s",
    "second_start_s",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(make_model("qwen2"), tmp_path_factory.mktemp("bench"))


def bench(*arguments: object, status: int = 0) -> Any:
    result = CliRunner().invoke(app, ["bench", *(str(a) for a in arguments)])
    assert result.exit_code == status, result.output
    return result


def test_a_model_directory_is_measured(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "installed", lambda name: name != "llama_cpp")
    monkeypatch.setattr("npu_sim.bench.language.torch_stepper.TorchStepper.furthest", 16)
    chart = tmp_path / "positions.svg"
    options = [
        "--prompt-tokens",
        20,
        "--rounds",
        2,
        "--turn-ms",
        1,
        "--device",
        "cpu",
        "--against",
        "torch,llama.cpp",
    ]
    options += ["--sweep", "--max-cache-len", 64]
    if installed("matplotlib"):
        options += ["--chart", chart]
    found = json.loads(bench(folder, *options, "--json").stdout)
    assert all(found[key] > 0 for key in KEYS)
    assert found["build_times"].keys() == {"prefill", "prefill_32", "prefill_8", "decode"}
    assert found["compile_s"] < 1.5 and found["second_start_s"] < found["first_start_s"]
    # Six a layer, the embedding, the rotary tables, the output layer, the choice of the token.
    assert found["dispatches_per_token"] == 2 * 6 + 4
    assert found["imported_torch"] is False
    held = found["weight_bytes"] + found["kv_cache_bytes"]
    assert found["peak_rss_bytes"] <= held + 200e6
    assert [row["position"] for row in found["positions"]] == [1, 2, 4, 8, 16, 32]
    assert ["torch float32" in row for row in found["positions"]] == [True] * 5 + [False]
    assert [row["tokens"] for row in found["prompts"]] == [1, 2, 4, 8, 16, 32]
    assert all(row["torch float32"]["median_ms"] > 0 for row in found["prompts"])
    assert [row["name"] for row in found["contenders"]] == ["npu_sim", "torch"]
    (absent,) = found["absent"]
    assert absent["reason"] == "not installed: pip install llama-cpp-python"
    assert all(row["token"]["median_ms"] > 0 for row in found["contenders"])
    if installed("matplotlib"):
        assert chart.read_text().lstrip().startswith("<?xml")


def test_a_name_needs_random_weights_and_peers_are_known(folder: Path) -> None:
    assert "--random-weights" in bench("qwen2.5-1.5b", status=2).output
    options = ["--against", "onnxruntime", "--max-cache-len", 160, "--rounds", 1]
    assert "torch-compile, openvino, llama.cpp" in bench(folder, *options, status=2).output
    assert "--sweep" in bench(folder, "--chart", "x.svg", status=2).output


def test_random_models_have_the_size_of_the_real_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LANGUAGE_MODELS["qwen2.5-1.5b"]["num_hidden_layers"] == 28
    small = {**LANGUAGE_MODELS["qwen2.5-1.5b"], "vocab_size": 64, "intermediate_size": 64}
    monkeypatch.setitem(LANGUAGE_MODELS, "small", small)
    write_random_model("small", tmp_path, layers=1)
    llm = LLM.from_pretrained(tmp_path, device="cpu", max_cache_len=32, chunks=(), progress=False)
    products = 1536 * (12 * 128 + 2 * 2 * 128 + 1536 + 3 * 64 + 64)
    norms, biases = 3 * 1536, 12 * 128 + 2 * 2 * 128
    assert weight_bytes_per_token(llm.program) == 2 * products + 4 * (norms + biases)
    first = llm.logits([1, 2, 3])
    assert np.isfinite(first).all() and first.std() > 0


def test_the_stepper_says_what_generation_says(folder: Path) -> None:
    llm = LLM.from_pretrained(folder, device="cpu", max_cache_len=64, progress=False)
    ids = list(range(30, 50))
    made = llm.generate(ids, 2, stream=False)
    stepper = OwnStepper(llm, "float32")
    assert stepper.prompt(ids) == made.token_ids[0]
    assert [stepper.token(made.token_ids[0]) for _ in range(3)] == [made.token_ids[1]] * 3


@pytest.mark.parametrize("name", PEERS)
def test_peers_say_what_we_say(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = [library for library in PEERS[name].libraries if not installed(library)]
    if absent:
        pytest.skip(f"not installed: {absent[0]}")
    # Inductor takes minutes; what is compiled, and the cache that it is called with, are ours.
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    settings = Settings(folder, prompt=20, max_cache_len=64, against=(name,))
    (peer,), missing = load_peers(settings, lambda _: None)
    llm = LLM.from_pretrained(folder, device="cpu", max_cache_len=64, progress=False)
    own = OwnStepper(llm, "float32")
    assert not missing and peer.name == name and peer.precision == "float32"
    for ids in (list(range(30, 50)), [7, 9, 250]):
        assert peer.prompt(ids) == own.prompt(ids)
        assert peer.token(60) == own.token(60)
        peer.rewind()
    peer.move_to(40)
    peer.move_to(5)
    assert 0 <= peer.token(1) < 300


def test_peers_that_cannot_take_part_say_why(tmp_path: Path) -> None:
    sliding = save(make_model("mistral"), tmp_path)
    ready, absent = load_peers(Settings(sliding, against=("torch",)), lambda _: None)
    assert not ready and "sliding windows" in absent[0].reason


def test_int8_weights_change_logits_a_little_and_say_so(folder: Path) -> None:
    options: dict[str, Any] = {"device": "cpu", "max_cache_len": 64, "progress": False}
    plain = LLM.from_pretrained(folder, **options)
    small = LLM.from_pretrained(folder, weight_dtype="int8", **options)
    assert plain.quantization_errors() == []
    errors = small.quantization_errors()
    # Four matrices a layer, and the output layer.
    assert len(errors) == 2 * 4 + 1
    assert all(0 < error.relative < 0.02 for error in errors)
    ids = list(range(30, 50))
    expected, actual = plain.logits(ids), small.logits(ids)
    error = np.sqrt(np.mean((actual - expected) ** 2) / np.mean(expected**2))
    assert 0 < error < 0.05
    assert weight_bytes_per_token(small.program) < 0.6 * weight_bytes_per_token(plain.program)
    shown = CliRunner().invoke(
        app,
        ["generate", str(folder), "the fox", "-n", "2", "--weight-dtype", "int8"],
    )
    assert shown.exit_code == 0 and "9 weights quantised to int8" in shown.output
