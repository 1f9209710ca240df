"""``npu-sim chat``: a conversation with a language model."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from npu_sim.cli.common import DeviceOption, JsonOption, notice
from npu_sim.cli.language import (
    CacheLengthOption,
    DtypeOption,
    ModelArgument,
    NewTokensOption,
    SeedOption,
    StopOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
    WeightDtypeOption,
    load_model,
)


def chat_command(
    model: ModelArgument,
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the model is told beforehand.")
    ] = None,
    max_new_tokens: NewTokensOption = None,
    temperature: TemperatureOption = 0.0,
    top_k: TopKOption = 0,
    top_p: TopPOption = 1.0,
    seed: SeedOption = None,
    stop: StopOption = None,
    max_cache_len: CacheLengthOption = None,
    dtype: DtypeOption = None,
    weight_dtype: WeightDtypeOption = None,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Talk with a language model: a line to it, its answer, and so on.

    Ctrl-C ends an answer, Ctrl-D (or Ctrl-C at the prompt) the conversation. Lines may also come
    from a pipe; with --json, each answer is a line of JSON.

    \b
    Examples:
      npu-sim chat path/to/Qwen2.5-1.5B-Instruct
      npu-sim chat path/to/model --system "Answer in one sentence." --temperature 0.7
      echo "What is an NPU?" | npu-sim chat path/to/model --json
    """
    from json import dumps

    llm = load_model(model, device, max_cache_len, dtype, weight_dtype)
    messages = [{"role": "system", "content": system}] if system else []
    while (line := _read_line()) is not None:
        if not line.strip():
            continue
        messages.append({"role": "user", "content": line})
        answer = llm.chat(
            messages,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            stop=tuple(stop or ()),
        )
        try:
            for piece in answer:
                if not json:
                    typer.echo(piece.text, nl=False)
        except KeyboardInterrupt:
            answer.close()
        made = answer.generations[0]
        messages.append({"role": "assistant", "content": made.text})
        reason = made.finish_reason or "interrupted"
        if json:
            said = {"role": "assistant", "content": made.text, "finish_reason": reason}
            typer.echo(dumps(said))
        else:
            typer.echo("")
        if made.finish_reason is None:
            notice("the answer was ended")


def _read_line() -> str | None:
    """A line of the user's; None at the end of the conversation."""
    if sys.stdin.isatty():
        typer.echo("> ", nl=False, err=True)
    try:
        line = sys.stdin.readline()
    except KeyboardInterrupt:
        return None
    return line.rstrip("\n") if line else None
