"""docs/llm.md runs as written, and the small model of the examples learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.progress import Progress

from examples import train_small_lm
from examples.story_text import stories
from npu_sim.llm import LLM
from tests.docs.documents import ROOT, code_blocks
from tests.npu_sim.llm.families import make_model, save

PAGE = ROOT / "docs" / "llm.md"


def test_python_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(make_model("qwen2"), tmp_path / "path" / "to" / "model")
    names: dict[str, Any] = {"__name__": "page"}
    for number, block in enumerate(code_blocks(PAGE, "python"), 1):
        exec(compile(block, f"<{PAGE.name}, Python block {number}>", "exec"), names)
    assert isinstance(names["llm"], LLM)
    assert "(3, 300)" in capsys.readouterr().out


def test_every_error_is_on_the_page() -> None:
    from npu_sim.llm import errors

    text = PAGE.read_text(encoding="utf-8")
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.LLMError) and name != "LLMError":
            assert f"`{name}`" in text


def test_stories_differ_by_seed_alone() -> None:
    assert stories(3, seed=1) == stories(3, seed=1) != stories(3, seed=2)


def test_the_example_learns_and_what_it_saves_runs(tmp_path: Path) -> None:
    recipe = train_small_lm.Recipe(32, 1, 2, 300, stories=200, steps=70, batch=4, length=32)
    torch.manual_seed(1)
    texts = list(stories(recipe.stories, 1))
    tokenizer = train_small_lm.train_tokenizer(texts, recipe.vocabulary)
    model = train_small_lm.make_model(recipe, tokenizer.token_to_id(train_small_lm.END))
    tokens = torch.tensor([t for e in tokenizer.encode_batch(texts) for t in e.ids])
    with Progress(disable=True) as display:
        loss = train_small_lm.train(model, tokens, recipe, display)
    # Evenly spread guesses would be at log(300) = 5.7.
    assert loss < 5.2
    train_small_lm.save(model, tokenizer, tmp_path)
    llm = LLM.from_pretrained(tmp_path, device="cpu", max_cache_len=64, chunks=())
    assert llm.compute_dtype == "bfloat16"
    assert llm.generate("One morning", 5, stream=False).token_ids
    assert llm.chat([{"role": "user", "content": "One"}], max_new_tokens=2).finish()[0].token_ids
