"""Text to token ids and back, piece by piece, and conversations by a model's chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from npu_sim.extras import require
from npu_sim.llm.errors import ModelFilesError, PromptError
from npu_sim.llm.model_files import TOKENIZER_NAME, ModelFiles

# What a tokenizer's decoder writes for bytes that are no UTF-8, or not yet.
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
Message = Mapping[str, Any]


class Tokenizer:
    """The tokenizer of a model directory (tokenizer.json)."""

    def __init__(self, files: ModelFiles) -> None:
        if not files.has(TOKENIZER_NAME):
            raise ModelFilesError(
                f"{files.path}: no {TOKENIZER_NAME}, so that text cannot be read or written; give "
                "token ids as prompts, or convert the tokenizer: "
                "transformers.AutoTokenizer.from_pretrained(path).save_pretrained(path)"
            )
        tokenizers = require("tokenizers", "reading and writing text")
        file = files.path / TOKENIZER_NAME
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing more specific
            raise ModelFilesError(f"{file}: not a tokenizer: {error}") from error
        self._files = files

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of a text; with ``special`` those that the model expects around it."""
        try:
            found: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        except TypeError as error:
            raise PromptError(f"a text that is no Unicode, such as {ascii(text)[:80]}") from error
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation, up to where the model answers.

        ``messages`` are ``{"role": "system" | "user" | "assistant", "content": text}``. Raises
        PromptError where the model has no chat template or the template refuses them.
        """
        listed = isinstance(messages, Sequence) and not isinstance(messages, str)
        if not (listed and all(isinstance(m, Mapping) for m in messages)):
            raise PromptError(
                "a conversation is a list of messages such as "
                '{"role": "user", "content": "hello"}; for a text alone use generate'
            )
        jinja2 = require("jinja2", "chat templates")
        try:
            template = _environment().from_string(self._template())
            text = template.render(
                messages=list(messages), add_generation_prompt=True, **self._special_texts()
            )
        except jinja2.TemplateError as error:
            raise PromptError(f"the chat template refuses the conversation: {error}") from error
        return self.encode(text, special=False)

    def _template(self) -> str:
        if self._files.has("chat_template.jinja"):
            file = self._files.path / "chat_template.jinja"
            return file.read_text(encoding="utf-8")
        template = self._settings().get("chat_template")
        if isinstance(template, list):
            template = {t["name"]: t["template"] for t in template}.get("default")
        if not isinstance(template, str):
            raise PromptError(
                f"{self._files.path}: the model has no chat template; it only continues texts: use "
                "generate"
            )
        return template

    def _settings(self) -> dict[str, Any]:
        name = "tokenizer_config.json"
        return self._files.read_json(name) if self._files.has(name) else {}

    def _special_texts(self) -> dict[str, str]:
        """bos_token and its like, which templates refer to."""
        name = "special_tokens_map.json"
        given = self._files.read_json(name) if self._files.has(name) else {}
        found = {}
        for key, value in {**given, **self._settings()}.items():
            text = value.get("content") if isinstance(value, dict) else value
            if key.endswith("_token") and isinstance(text, str):
                found[key] = text
        return found


def _environment() -> Any:
    """Where templates run: they come with models, so they get nothing but text to work on."""
    jinja2 = require("jinja2", "chat templates")
    sandbox = require("jinja2.sandbox", "chat templates")

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(
        value, **{"ensure_ascii": False, **options}
    )
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


class Writer:
    """Turns tokens of one text into pieces of it, and ends it at a stop string.

    A piece comes out once it is complete: no part of a character, and nothing that a stop string
    may begin with.
    """

    def __init__(self, tokenizer: Tokenizer | None, stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._ids: list[int] = []
        # Tokens before _begin have no influence on text from _shown on.
        self._begin = 0
        self._shown = 0
        self._held = ""
        self.stopped = False

    def write(self, token: int) -> str:
        """The text that a token completes."""
        if self._tokenizer is None:
            return ""
        self._ids.append(token)
        before = self._tokenizer.decode(self._ids[self._begin : self._shown])
        text = self._tokenizer.decode(self._ids[self._begin :])
        if len(text) <= len(before) or text.endswith(_INCOMPLETE):
            return ""
        self._begin, self._shown = self._shown, len(self._ids)
        return self._pass(text[len(before) :])

    def end(self) -> str:
        """What was held back, once no more tokens come."""
        if self._tokenizer is None or self.stopped:
            return ""
        before = self._tokenizer.decode(self._ids[self._begin : self._shown])
        rest = self._tokenizer.decode(self._ids[self._begin :])[len(before) :]
        text = self._pass(rest)
        text, self._held = text + self._held, ""
        return text

    def _pass(self, text: str) -> str:
        """What may be shown of the text held back and ``text``."""
        text = self._held + text
        ends = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)]
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that ``stop`` begins with."""
    return next(
        (n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0
    )
