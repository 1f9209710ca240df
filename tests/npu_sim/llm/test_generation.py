"""Generated text: batches, sampling, stop strings, streams, chat; independence of how it is run."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.generation.logits_process import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from npu_runtime import Device
from npu_sim.llm import LLM, Generation
from tests.npu_sim.llm.families import END_TOKEN, VOCABULARY, make_model, save

PROMPTS = [
    [int(t) for t in np.random.default_rng(seed).integers(2, VOCABULARY, length)]
    for seed, length in ((1, 3), (2, 21), (3, 40))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = make_model("qwen2")
    path = save(model, tmp_path_factory.mktemp("qwen2"))
    (path / "chat_template.jinja").write_text(
        "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant: {% endif %}"
    )
    return path


@pytest.fixture(scope="module")
def llm(folder: Path, program_folder: Path) -> LLM:
    return _load(folder, program_folder, 96, (16,))


def _load(folder: Path, programs: Path, length: int, chunks: tuple[int, ...]) -> LLM:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NPU_SIM_CACHE_DIR", str(programs))
        return LLM.from_pretrained(folder, device="cpu", max_cache_len=length, chunks=chunks)


def _one(llm: LLM, prompt: str | list[int], count: int, **options: object) -> Generation:
    made = llm.generate(prompt, count, stream=False, **options)  # type: ignore[call-overload]
    assert isinstance(made, Generation)
    return made


def test_batch_is_each_prompt_alone(llm: LLM) -> None:
    together = llm.generate(PROMPTS, 12, stream=False)
    assert isinstance(together, list)
    assert [g.token_ids for g in together] == [_one(llm, p, 12).token_ids for p in PROMPTS]
    for whole in (np.array, torch.tensor):
        assert _one(llm, whole(PROMPTS[0]), 12) == together[0]
        assert llm.generate(whole([PROMPTS[1]]), 12, stream=False) == [together[1]]


def test_cache_length_and_chunks_change_nothing(
    llm: LLM, folder: Path, program_folder: Path
) -> None:
    expected = [_one(llm, p, 12).token_ids for p in PROMPTS]
    for length, chunks in ((64, (32, 8)), (52, ())):
        other = _load(folder, program_folder, length, chunks)
        assert [_one(other, p, 12).token_ids for p in PROMPTS] == expected


def test_second_start_uses_the_stored_program(folder: Path, program_folder: Path, llm: LLM) -> None:
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NPU_SIM_CACHE_DIR", str(program_folder))
        again = LLM.from_pretrained(
            folder,
            device=Device("cpu"),
            max_cache_len=96,
            chunks=(16,),
            progress=lambda what, done, total: told.append(what),
        )
    assert set(told) == {"loading weights"}
    assert again.program.to_bytes() == llm.program.to_bytes()


def test_entry_points_share_weights_and_update_caches_in_place(llm: LLM) -> None:
    program = llm.program
    names = [entry.name for entry in program.entry_points]
    assert names == ["prefill", "decode", "sample", "sample_all"]
    for entry in program.entry_points[:2]:
        donors = [d for d in entry.donors if d is not None]
        caches = [i for i, (name, _) in enumerate(entry.inputs) if name.startswith("caches_")]
        assert donors == caches
    # Every matrix of the checkpoint is bound once for both.
    assert len({spec.name for spec in program.weight_specs}) == len(program.weight_specs)


def test_same_seed_same_text(llm: LLM) -> None:
    def text(seed: int, **options: object) -> list[int]:
        return _one(llm, "the fox", 16, seed=seed, **options).token_ids

    for options in (
        {"temperature": 1.0},
        {"temperature": 1.0, "top_k": 10},
        {"temperature": 0.7, "top_p": 0.9},
    ):
        assert text(3, **options) == text(3, **options)
        assert text(3, **options) != text(4, **options)
    greedy = _one(llm, "the fox", 16).token_ids
    assert text(3, temperature=1.0, top_k=1) == greedy
    assert text(3, temperature=1.0, top_p=1e-6) == greedy
    assert text(3, temperature=1e-4) == greedy


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [
        (1.0, 0, 1.0),
        (0.7, 0, 1.0),
        (1.0, 4, 1.0),
        (1.0, 0, 0.5),
        (0.6, 0, 0.9),
        (1.7, 20, 0.8),
        (0.05, 5, 0.95),
        (1.0, VOCABULARY + 1, 0.3),
    ],
)
def test_draws_are_those_of_transformers(
    llm: LLM, temperature: float, top_k: int, top_p: float
) -> None:
    """Each token comes out for as large a part of the numbers in [0, 1) as transformers' logits
    processors give it of the probability.
    """
    engine, numbers = llm.engine(), 1000
    caches = engine.take_caches()
    logits = engine.prefill(caches, PROMPTS[:1])[1]
    processors = [
        TemperatureLogitsWarper(temperature),
        *([TopKLogitsWarper(top_k)] if top_k else []),
        *([TopPLogitsWarper(top_p)] if top_p < 1 else []),
    ]
    scores = torch.from_numpy(logits.to_numpy(np.float32)[:, 0])
    for processor in processors:
        scores = processor(None, scores)
    wanted = torch.softmax(scores, -1)[0].numpy() * numbers
    found = np.zeros(VOCABULARY)
    for number in (np.arange(numbers, dtype=np.float32) + 0.5) / numbers:
        found[engine.sample(logits, temperature, top_k, top_p, number.reshape(1))[0]] += 1
    engine.give_back(caches)
    assert np.all(found[wanted == 0] == 0)
    assert np.abs(found - wanted).max() < 1.01


def test_seeds_follow_the_probabilities(llm: LLM) -> None:
    logits = llm.logits(PROMPTS[0])[-1].astype(np.float64)
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    draws = 200
    found = Counter(
        _one(llm, PROMPTS[0], 1, temperature=1.0, seed=seed).token_ids[0] for seed in range(draws)
    )
    for token in np.argsort(-probabilities)[:5].tolist():
        expected = probabilities[token]
        spread = (expected * (1 - expected) / draws) ** 0.5
        assert abs(found[token] / draws - expected) < 4.5 * spread


def test_stream_is_the_finished_text(llm: LLM) -> None:
    pieces = list(llm.generate("the quick", 20, temperature=1.0, seed=5))
    whole = _one(llm, "the quick", 20, temperature=1.0, seed=5)
    assert "".join(map(str, pieces)) == whole.text
    assert [p.token_id for p in pieces] == whole.token_ids
    assert [p.finish_reason for p in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert whole.finish_reason == pieces[-1].finish_reason
    ids = [t for t in whole.token_ids if t != END_TOKEN]
    prefix = llm.tokenizer.encode("the quick")
    assert whole.text == llm.tokenizer.decode(prefix + ids)[len("the quick") :]


def test_stop_strings_end_the_text(llm: LLM) -> None:
    whole = _one(llm, "the quick", 30, temperature=1.0, seed=5).text
    stop = whole[4:7]
    made = _one(llm, "the quick", 30, temperature=1.0, seed=5, stop=["no such text", stop])
    assert made.text == whole[: whole.index(stop)]
    assert made.finish_reason == "stop"


def test_stream_ended_early_leaves_a_usable_model(llm: LLM) -> None:
    expected = _one(llm, PROMPTS[1], 10).token_ids
    texts = llm.generate(PROMPTS[1], 10)
    assert next(texts).token_id == expected[0]
    texts.close()
    assert list(texts) == []

    def interrupted() -> None:
        for count, _ in enumerate(llm.generate(PROMPTS[1], 10)):
            if count == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert _one(llm, PROMPTS[1], 10).token_ids == expected


def test_ctrl_c_at_any_moment_leaves_a_usable_model(llm: LLM) -> None:
    expected = _one(llm, PROMPTS[1], 60, temperature=0.7, seed=3).token_ids
    for milliseconds in (1, 2, 4, 7):
        texts = llm.generate(PROMPTS[1], 60, temperature=0.7, seed=3, reuse_cache=True)
        timer = threading.Timer(milliseconds / 1e3, signal.raise_signal, [signal.SIGINT])
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            texts.finish()
            timer.join()
            time.sleep(1)  # a text that was ready first: the signal comes now
        made = texts.generations[0].token_ids
        assert made == expected[: len(made)]
        again = llm.generate(PROMPTS[1], 60, 0.7, seed=3, reuse_cache=True, stream=False)
        assert isinstance(again, Generation) and again.token_ids == expected


def test_two_streams_in_turns(llm: LLM) -> None:
    expected = [_one(llm, p, 8).token_ids for p in PROMPTS[:2]]
    streams = [llm.generate(p, 8) for p in PROMPTS[:2]]
    pairs = list(zip(*streams, strict=True))
    assert [[p.token_id for p in side] for side in zip(*pairs, strict=True)] == expected


def test_chat_continues_its_conversation(llm: LLM) -> None:
    messages = [{"role": "user", "content": "the fox"}]
    answer = llm.chat(messages, max_new_tokens=6).finish()[0]
    ids = llm.tokenizer.encode("<s>user: the fox<s>assistant: ", special=False)
    assert answer.token_ids == _one(llm, ids, 6).token_ids
    # What the caches hold of the first turn changes nothing.
    messages += [
        {"role": "assistant", "content": "jumps"},
        {"role": "user", "content": "over"},
    ]
    second = llm.chat(messages, max_new_tokens=6).finish()[0]
    fresh = llm.chat(messages, max_new_tokens=6, reuse_cache=False).finish()[0]
    assert second.token_ids == fresh.token_ids
    assert llm.chat(messages, max_new_tokens=6, stream=False) == second


def test_tensors_of_different_dtypes(folder: Path, program_folder: Path, tmp_path: Path) -> None:
    def exact(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {k: v.bfloat16().float() if "q_proj" in k else v for k, v in tensors.items()}

    texts = []
    for mixed in (False, True):
        copy = tmp_path / str(mixed)
        shutil.copytree(folder, copy)
        tensors = exact(load_file(copy / "model.safetensors"))
        if mixed:
            tensors = {k: v.bfloat16() if "q_proj" in k else v for k, v in tensors.items()}
        save_file(tensors, copy / "model.safetensors")
        # The same weights in the layout of another program are not looked at.
        save_file({"layers.0.wq": torch.zeros(2)}, copy / "consolidated.safetensors")
        texts.append(_one(_load(copy, program_folder, 96, (16,)), PROMPTS[2], 12))
    assert texts[0] == texts[1]


def test_perplexity_is_that_of_the_logits(llm: LLM) -> None:
    ids = PROMPTS[2]
    logits = llm.logits(ids).astype(np.float64)
    assert logits.shape == (len(ids), VOCABULARY)
    scores = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = np.exp(-np.mean(scores[np.arange(len(ids) - 1), ids[1:]]))
    assert llm.perplexity(ids) == pytest.approx(expected, rel=1e-5)


def test_prompts_go_in_the_cheapest_chunks(folder: Path, program_folder: Path) -> None:
    engine = _load(folder, program_folder, 96, (32, 8)).engine()

    def sizes(tokens: int) -> list[int]:
        return [entry.tokens for entry, _ in engine._plan([range(tokens)])]

    assert sizes(1) == [1] and sizes(2) == sizes(8) == [8]
    assert sizes(9) == [8, 1] and sizes(20) == sizes(32) == [32]
    assert sizes(40) == [32, 8] and sizes(41) == [32, 8, 1] and sizes(70) == [32, 32, 8]
