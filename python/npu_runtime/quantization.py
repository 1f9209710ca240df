"""What quantisation costs: the error of a program's integer weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from npu_compiler.program.recipes import Recipe, RecipeStep, recipe_sources, run_recipe
from npu_runtime.tensor_files import TensorSource, open_tensors

if TYPE_CHECKING:
    from npu_compiler.compiled_program import CompiledProgram

_QUANTIZE = RecipeStep("quantize")
# A sample of so many channels is worth one whole expert of a mixture.
_EXPERT = 16


class QuantizedWeight(NamedTuple):
    """The error of one quantised weight, over ``rows`` of its output channels: root mean square
    error relative to the root mean square of the weights, and the signal-to-quantisation-noise
    ratio in dB.
    """

    name: str
    rows: int
    relative: float
    sqnr_db: float


def quantization_errors(
    source: str | os.PathLike[str] | Mapping[str, Any] | TensorSource,
    program: CompiledProgram,
    *,
    max_rows: int | None = 64,
) -> list[QuantizedWeight]:
    """The error of every integer weight of ``program`` against the tensors in ``source`` (as
    ``load_weights`` takes them), in the program's order; an empty list where nothing is quantised.

    Every output channel has a scale of its own, so that some of them, evenly spaced over each
    stored tensor, tell the error of all: ``max_rows`` of each (or, of a mixture, the channels of a
    sixteenth as many experts); None for all.

    Raises FileError and WeightError as ``load_weights`` does.
    """
    tensors = open_tensors(source)
    return [
        _error(spec.name, recipe, tensors, max_rows)
        for spec, recipe in zip(program.weight_specs, program.weight_recipes, strict=True)
        if _QUANTIZE in recipe
    ]


def _error(
    name: str, recipe: Recipe, tensors: TensorSource, max_rows: int | None
) -> QuantizedWeight:
    sampled = {}
    for key in recipe_sources(recipe):
        whole = tensors.get(key)
        # Experts are taken whole, with all of their channels.
        most = max_rows if max_rows is None or whole.ndim < 3 else max(1, max_rows // _EXPERT)
        step = 1 if most is None else max(1, -(-whole.shape[0] // most))
        sampled[key] = np.asarray(whole[::step])
        tensors.release(key)
    at = recipe.index(_QUANTIZE)
    values = run_recipe((*recipe[:at], RecipeStep("cast", dtype="float32")), sampled, name)
    integers = run_recipe(recipe[: at + 1], sampled, name)
    scales = run_recipe((*recipe[:at], RecipeStep("quantize_scale")), sampled, name)
    difference = integers * scales[..., None] - values
    signal = float(np.mean(np.square(values, dtype=np.float64)))
    noise = float(np.mean(np.square(difference, dtype=np.float64)))
    ratio = noise / signal if signal else 0.0
    decibels = -10 * np.log10(ratio) if ratio else np.inf
    return QuantizedWeight(name, scales.size, float(np.sqrt(ratio)), float(decibels))
