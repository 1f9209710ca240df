"""What the language-model commands share: their options, and loading a model."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from npu_sim.cli.common import notice

if TYPE_CHECKING:
    from npu_sim.llm import LLM

ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="A model directory: config.json, safetensors, tokenizer.json.",
        show_default=False,
    ),
]
NewTokensOption = Annotated[
    int | None,
    typer.Option(
        "--max-new-tokens", "-n", min=1, help="Length of the text. Default: as much as fits."
    ),
]
TemperatureOption = Annotated[
    float, typer.Option(min=0.0, help="0 takes the likeliest token; above, tokens are drawn.")
]
TopKOption = Annotated[int, typer.Option(min=0, help="Draw among so many tokens; 0: all.")]
TopPOption = Annotated[
    float, typer.Option(help="Draw among the likeliest tokens with this share of probability.")
]
SeedOption = Annotated[int | None, typer.Option(help="The same one gives the same text.")]
StopOption = Annotated[
    list[str] | None,
    typer.Option("--stop", metavar="TEXT", help="Ends the text; repeat for more."),
]
CacheLengthOption = Annotated[
    int | None,
    typer.Option(
        "--max-cache-len",
        min=1,
        help="Tokens of prompt and text together. Default: the model's limit, 4096 at most.",
    ),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="DTYPE",
        help="float16, bfloat16, float32. Default: the model's.",
        show_default=False,
    ),
]
WeightDtypeOption = Annotated[
    str | None,
    typer.Option(
        "--weight-dtype",
        metavar="DTYPE",
        help="int8: half the memory, and nearly twice the speed, at a small error (printed).",
        show_default=False,
    ),
]


def load_model(
    path: Path,
    device: str | None,
    max_cache_len: int | None,
    dtype: str | None,
    weight_dtype: str | None = None,
) -> LLM:
    """The model of a command, with a progress bar on a terminal; says what quantisation costs."""
    from npu_sim.llm import LLM

    with warnings.catch_warnings():
        # A line each, without the place in the code.
        warnings.showwarning = lambda message, *_: notice(str(message))
        model = LLM.from_pretrained(
            path,
            device=device,
            max_cache_len=max_cache_len,
            compute_dtype=dtype,
            weight_dtype=weight_dtype,
        )
    errors = model.quantization_errors()
    if errors:
        worst = max(errors, key=lambda error: error.relative)
        notice(
            f"{len(errors)} weights quantised to {weight_dtype}: relative error at most "
            f"{worst.relative:.2%} ({worst.sqnr_db:.1f} dB), {worst.name}"
        )
    return model
