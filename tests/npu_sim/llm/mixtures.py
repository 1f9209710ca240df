"""``python -m tests.npu_sim.llm.mixtures``: bfloat16 errors of many mixtures of experts.

Where two experts are as good as equal, rounding decides where a token goes, in transformers as
here: the error of one model says little, and of all positions a few make most of it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from npu_sim.llm import LLM
from tests.npu_sim.llm.families import MIXTURES, make_model, reference, save

TOKENS = 64


def squares(family: str, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of every position, transformers' and our mean squared distance to float32's logits."""
    model = make_model(family, seed)
    model.to(torch.bfloat16).to(torch.float32)
    tokens = [int(token) for token in np.random.default_rng(seed).integers(3, 280, TOKENS)]
    wanted = reference(model, tokens, torch.float32)
    own = reference(model, tokens, torch.bfloat16)
    with tempfile.TemporaryDirectory() as folder:
        saved = save(model, Path(folder), dtype="bfloat16")
        llm = LLM.from_pretrained(saved, max_cache_len=96, device="cpu", progress=False)
        found = llm.logits(tokens)
    theirs, ours = (np.square(x - wanted, dtype=np.float64).mean(axis=1) for x in (own, found))
    return theirs, ours


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=10, help="models of each family")
    models = parser.parse_args().models
    table = Table("family", "transformers", "ours", "ratio", "ratio of medians")
    for family in sorted(MIXTURES):
        made = [squares(family, seed) for seed in track(range(models), family)]
        theirs, ours = (np.concatenate(side) for side in zip(*made, strict=True))
        means = np.sqrt([theirs.mean(), ours.mean()])
        medians = np.sqrt([np.median(theirs), np.median(ours)])
        ratios = (means[1] / means[0], medians[1] / medians[0])
        table.add_row(family, f"{means[0]:.4f}", f"{means[1]:.4f}", *(f"{r:.2f}" for r in ratios))
    Console().print(table)


if __name__ == "__main__":
    main()
