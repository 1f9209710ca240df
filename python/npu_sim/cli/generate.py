"""``npu-sim generate``: a language model continues a text."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from npu_compiler.errors import NpuError
from npu_sim.cli.common import DeviceOption, JsonOption, print_json
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


def generate_command(
    model: ModelArgument,
    prompt: Annotated[str, typer.Argument(help="The text to continue.", show_default=False)],
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
    """Continue a text with a language model, printed as it is made.

    Ctrl-C ends the text.

    \b
    Examples:
      npu-sim generate path/to/Qwen2.5-1.5B "Once upon a time" --max-new-tokens 100
      npu-sim generate path/to/model "The sea" --temperature 0.8 --top-p 0.95 --seed 1
      npu-sim generate path/to/model "One, two," --stop "." --json
    """
    llm = load_model(model, device, max_cache_len, dtype, weight_dtype)
    ids = llm.tokenizer.encode(prompt)
    begin = time.perf_counter()
    pieces = llm.generate(
        ids, max_new_tokens, temperature, top_k, top_p, seed, tuple(stop or ()), stream=True
    )
    first = begin
    try:
        if not json:
            typer.echo(prompt, nl=False)
        for count, piece in enumerate(pieces):
            first = time.perf_counter() if count == 0 else first
            if not json:
                typer.echo(piece.text, nl=False)
    except KeyboardInterrupt:
        pieces.close()
    except NpuError:
        # What there is of the text has its line; the message comes on the next.
        if not json:
            typer.echo("")
        raise
    end = time.perf_counter()
    made = pieces.generations[0]
    if not json:
        typer.echo("")
        return
    later = len(made.token_ids) - 1
    print_json(
        {
            "device": llm.device.kind,
            "compute_dtype": llm.compute_dtype,
            "prompt": prompt,
            "prompt_tokens": len(ids),
            "text": made.text,
            "token_ids": made.token_ids,
            "finish_reason": made.finish_reason or "interrupted",
            "first_token_ms": (first - begin) * 1e3,
            "ms_per_token": (end - first) / later * 1e3 if later > 0 else None,
        }
    )
