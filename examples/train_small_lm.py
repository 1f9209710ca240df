"""Train a small language model on our own text and save it as a Hugging Face directory.

    python examples/train_small_lm.py -o small_lm            a few minutes on two cores
    python examples/train_small_lm.py -o small_lm --quick    less than one
    npu-sim generate small_lm "One morning" --temperature 0.7

A byte-level BPE tokenizer is trained first, then a model of Qwen2's architecture with a cosine
schedule. The text comes from a grammar (story_text.py).
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, Qwen2Config
from transformers.utils import logging

try:
    from examples.story_text import stories
except ModuleNotFoundError:  # run as a script: its own folder is on the path
    from story_text import stories

END = "<|end|>"
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{{ ' ' if not loop.last }}{% endfor %}"


@dataclass(frozen=True)
class Recipe:
    """Sizes of the model and of its training."""

    hidden: int
    layers: int
    heads: int
    vocabulary: int
    stories: int
    steps: int
    batch: int
    length: int = 128
    rate: float = 3e-3


FULL = Recipe(256, 5, 8, 1024, stories=20_000, steps=700, batch=16)
QUICK = Recipe(128, 3, 4, 512, stories=4_000, steps=260, batch=12)


def train_tokenizer(texts: list[str], size: int) -> Tokenizer:
    """A byte-level BPE tokenizer: any text can be written with it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def make_model(recipe: Recipe, end: int) -> Any:
    """An untrained model of Qwen2's architecture."""
    config = Qwen2Config(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.hidden * 11 // 4,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads // 2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
    )
    config.dtype = torch.float32
    return AutoModelForCausalLM.from_config(config).float()


def learning_rate(recipe: Recipe, step: int) -> float:
    """A short warm-up, then half a cosine."""
    warm = min(1.0, (step + 1) / 20)
    return recipe.rate * warm * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))


def train(model: Any, tokens: torch.Tensor, recipe: Recipe, display: Progress) -> float:
    """Train on random windows of the text; returns the mean loss of the last steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=0.05)
    task = display.add_task("training", total=recipe.steps)
    losses: list[float] = []
    model.train()
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        begins = torch.randint(len(tokens) - recipe.length - 1, (recipe.batch,))
        window = torch.stack([tokens[b : b + recipe.length + 1] for b in begins.tolist()])
        logits = model(input_ids=window[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        recent = losses[-20:]
        display.update(
            task, advance=1, description=f"training, loss {sum(recent) / len(recent):.2f}"
        )
    return sum(losses[-20:]) / len(losses[-20:])


def save(model: Any, tokenizer: Tokenizer, folder: Path) -> None:
    """Write config.json, model.safetensors (bfloat16), tokenizer.json and a chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    model.eval().to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")


def main() -> None:
    """Train, save, say how it went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("small_lm"), metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="a smaller model, under a minute")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    recipe = QUICK if arguments.quick else FULL
    torch.manual_seed(arguments.seed)
    begin = time.perf_counter()
    texts = list(stories(recipe.stories, arguments.seed))
    tokenizer = train_tokenizer(texts[:2000], recipe.vocabulary)
    end = tokenizer.token_to_id(END)
    ids = [token for e in tokenizer.encode_batch(texts) for token in (*e.ids, end)]
    model = make_model(recipe, end)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        loss = train(model, torch.tensor(ids), recipe, display)
    count = sum(p.numel() for p in model.parameters())
    save(model, tokenizer, arguments.output)
    print(
        f"{count / 1e6:.1f} M parameters, {len(ids):,} tokens of text, loss {loss:.2f}, "
        f"{time.perf_counter() - begin:.0f} s: {arguments.output}"
    )


if __name__ == "__main__":
    main()
