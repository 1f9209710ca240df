"""A tiny language-model-like step in two forms, prefill and decode, linked into one program."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import nn

import npu_compiler
from npu_compiler.compiled_program import CompiledProgram
from torch_ir import extract_ir

ROWS, WIDTH, VOCABULARY = 32, 64, 96


class Step(nn.Module):
    """Tokens join a cache; the sum of the cache says what comes next."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.register_buffer("scale", torch.linspace(0.5, 1.5, WIDTH), persistent=False)

    def forward(
        self, tokens: torch.Tensor, slots: torch.Tensor, cache: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """tokens and slots (T,), cache (ROWS, WIDTH) -> logits (VOCABULARY,), the new cache."""
        keys = self.key(self.embed(tokens)) * self.scale
        cache = cache.index_copy(0, slots, keys)
        return self.head(cache.sum(0, keepdim=True))[0], cache


@functools.cache
def model() -> Step:
    """The module."""
    torch.manual_seed(3)
    return Step().eval()


def inputs(tokens: int, first: int = 0) -> tuple[torch.Tensor, ...]:
    """Example inputs of a form for so many tokens."""
    ids = torch.arange(first, first + tokens) * 7 % VOCABULARY
    return ids, torch.arange(first, first + tokens), torch.zeros(ROWS, WIDTH)


def compiled(tokens: int, module: nn.Module | None = None, **options: Any) -> CompiledProgram:
    """One form, its cache donated."""
    ir = extract_ir((module or model()).eval(), inputs(tokens), model_name="step").to_dict()
    names = [tensor["name"] for tensor in ir["graph_inputs"]]
    settings = {"compute_dtype": "float32", "donate_inputs": [names[2]], **options}
    return npu_compiler.compile(ir, **settings)


@functools.cache
def linked() -> CompiledProgram:
    """Prefill of 8 tokens and decode of one."""
    return npu_compiler.link({"prefill": compiled(8), "decode": compiled(1)})


def state_dict() -> dict[str, np.ndarray]:
    """The weights."""
    return {name: value.numpy() for name, value in model().state_dict().items()}
