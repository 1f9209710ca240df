"""npu-sim generate and chat, and a second start without PyTorch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from npu_sim.cli import app
from npu_sim.llm import LLM
from npu_sim.llm.generation import Piece, TextStream
from tests.npu_sim.llm.families import make_model, save

OPTIONS = ("--max-cache-len", "64", "--device", "cpu", "--max-new-tokens", "8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = save(make_model("qwen2"), tmp_path_factory.mktemp("qwen2"))
    (path / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}"
    )
    return path


def call(*arguments: object, text: str | None = None, status: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(a) for a in arguments], input=text)
    assert result.exit_code == status, result.output
    return result


def test_generate_prints_the_prompt_and_its_continuation(folder: Path) -> None:
    whole = json.loads(call("generate", folder, "the fox", *OPTIONS, "--json").stdout)
    llm = LLM.from_pretrained(folder, device="cpu", max_cache_len=64)
    made = llm.generate("the fox", 8, stream=False)
    assert whole["text"] == made.text and whole["token_ids"] == made.token_ids
    assert whole["finish_reason"] == made.finish_reason and whole["device"] == "cpu"
    assert whole["prompt_tokens"] == len(llm.tokenizer.encode("the fox"))
    assert whole["first_token_ms"] > 0 and whole["ms_per_token"] > 0
    assert call("generate", folder, "the fox", *OPTIONS).stdout == f"the fox{made.text}\n"


def test_generate_draws_by_seed_and_stops(folder: Path) -> None:
    drawn = ("generate", folder, "the fox", *OPTIONS, "--temperature", "1", "--seed", "5")
    text = json.loads(call(*drawn, "--json").stdout)["text"]
    assert text == json.loads(call(*drawn, "--json").stdout)["text"]
    stopped = json.loads(call(*drawn, "--stop", text[3:5], "--json").stdout)
    assert stopped["text"] == text[: text.index(text[3:5])]
    assert stopped["finish_reason"] == "stop"


def test_chat_answers_every_line(folder: Path) -> None:
    answers = call("chat", folder, *OPTIONS, "--json", text="the fox\n\njumps\n").stdout
    lines = [json.loads(line) for line in answers.splitlines()]
    assert [line["role"] for line in lines] == ["assistant"] * 2
    assert call("chat", folder, *OPTIONS, text="the fox\n").stdout == f"{lines[0]['content']}\n"


def test_ctrl_c_ends_an_answer_and_not_the_conversation(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, pressed = TextStream.__next__, []

    def interrupted(stream: TextStream) -> Piece:
        if len(stream.generations[0].token_ids) == 3 and not pressed:
            pressed.append(True)
            raise KeyboardInterrupt
        return whole(stream)

    monkeypatch.setattr(TextStream, "__next__", interrupted)
    result = call("chat", folder, *OPTIONS, "--json", text="the fox\njumps\n")
    reasons = [json.loads(line)["finish_reason"] for line in result.stdout.splitlines()]
    assert reasons[0] == "interrupted" and reasons[1] in ("length", "stop")
    assert result.stderr.count("the answer was ended") == 1


def test_errors_are_one_line(folder: Path, tmp_path: Path) -> None:
    for arguments, status, text in (
        ((tmp_path, "text"), 1, "no config.json"),
        ((folder, "text", "--top-p", "2"), 2, "top_p 2.0"),
        ((folder, "text " * 100, "--max-cache-len", "8"), 1, "the KV cache holds 8"),
        ((folder, "text", "--dtype", "int3"), 2, "int3"),
    ):
        result = call("generate", *arguments, status=status)
        assert text in result.stderr and result.stderr.count("\n") == 1


def test_remarks_are_one_line(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "tower": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")
    result = call("generate", tmp_path, "the fox", *OPTIONS)
    assert result.stderr.count("\n") == 1 and "does not use 1 tensors" in result.stderr


def test_second_start_needs_no_torch(folder: Path) -> None:
    LLM.from_pretrained(folder, device="cpu", max_cache_len=64)
    code = (
        "import sys; from npu_sim.llm import LLM; "
        f"llm = LLM.from_pretrained({str(folder)!r}, device='cpu', max_cache_len=64); "
        "llm.generate('the fox', 4).finish(); "
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
