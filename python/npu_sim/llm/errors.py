"""Errors of npu_sim.llm: what a model directory lacks, what cannot run, what does not fit."""

from __future__ import annotations

from npu_sim.errors import NpuSimError


class LLMError(NpuSimError):
    """Base of the language-model errors."""


class ModelFilesError(LLMError):
    """A model directory lacks a file, or one of them is damaged; the message names it."""


class UnsupportedModelError(LLMError):
    """A part of the model's architecture cannot run here; the message names the part."""


class PromptError(LLMError, ValueError):
    """A prompt is empty, holds unknown token ids, or is text where there is no tokenizer."""


class CacheFullError(LLMError):
    """A sequence does not fit into the KV cache: the prompt, or what is generated after it."""
