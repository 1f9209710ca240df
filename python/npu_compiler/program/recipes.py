"""Weight recipes: the steps that turn state_dict tensors into a device weight, and their execution
with numpy.

A recipe works on one current array. ``load`` (or ``zeros``, ``full``) starts it, the others
transform it; arithmetic is float32 (float64 in BatchNorm folding), rounded once by the ``cast`` in
the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod

import numpy as np

from npu_compiler.arrays import Array, cast
from npu_compiler.dtypes import DTYPES, FLOATING
from npu_compiler.errors import RecipeError
from npu_compiler.program.schema import MAX_ELEMENTS, MAX_RANK, RECIPE_OPS

# What each operation's ``sources`` are, in order; all but those of ``load`` may be absent unless
# required below.
SOURCE_ROLES: dict[str, tuple[str, ...]] = {
    "load": ("tensor",),
    "fold_bn_weight": ("gamma", "beta", "mean", "var"),
    "fold_bn_bias": ("gamma", "beta", "mean", "var"),
    "weight_norm": ("gain",),
    "append": ("tensor",),
}
_REQUIRED = {
    "load": (0,),
    "weight_norm": (0,),
    "append": (0,),
    "fold_bn_weight": (3,),
    "fold_bn_bias": (2, 3),
}
# Operations whose ``args`` are no shape.
_AXES = frozenset({"slice", "flip", "weight_norm"})
# Elements that quantisation holds in float32: they stay in a core's cache from step to step.
_QUANTIZED_AT_ONCE = 1 << 17


@dataclass(frozen=True, slots=True)
class RecipeStep:
    """One step: ``sources`` are state_dict keys (None where absent), ``args`` axes or a shape.

    ``fold_bn_weight``: current *= gamma / sqrt(var + value) along dimension 0. ``fold_bn_bias``:
    current = (current - mean) * gamma / sqrt(var + value) + beta. ``pad`` grows to the shape
    ``args`` with zeros behind. ``full`` starts with the shape ``args`` filled with ``value``.
    ``slice`` with ``args`` (axis, start, step, count) keeps count elements of an axis; ``flip``
    reverses the axes ``args``. ``weight_norm`` gives every slice of the axis ``args`` (without one:
    the whole array) the length that ``gain`` says. ``append`` puts ``tensor`` behind along
    dimension 0; different floating dtypes are widened. ``quantize`` rounds every row (the last
    axis) to int8 multiples, -127 to 127, of its scale, max|row| / 127 in float32;
    ``quantize_scale`` makes the scales, float32, of the same array: without the last axis. A row of
    zeros has scale 0.
    """

    op: str
    sources: tuple[str | None, ...] = ()
    args: tuple[int, ...] = ()
    value: float = 0.0
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.op not in RECIPE_OPS:
            raise RecipeError(f"unknown recipe step {self.op!r}")
        roles = SOURCE_ROLES.get(self.op, ())
        if len(self.sources) != len(roles):
            raise RecipeError(
                f"recipe step {self.op}: {len(roles)} sources expected, got {len(self.sources)}"
            )
        for index in _REQUIRED.get(self.op, ()):
            if self.sources[index] is None:
                raise RecipeError(f"recipe step {self.op}: source {roles[index]!r} is missing")
        if self.args:
            self._check_args()
        if self.op == "permute" and sorted(self.args) != list(range(len(self.args))):
            raise RecipeError(f"recipe step permute: {list(self.args)} is no permutation")
        if self.op == "weight_norm" and len(self.args) > 1:
            raise RecipeError(f"recipe step weight_norm: at most one axis, got {list(self.args)}")
        if self.op == "flip" and len(set(self.args)) != len(self.args):
            raise RecipeError(f"recipe step flip: {list(self.args)} names an axis twice")
        if self.op == "slice" and (len(self.args) != 4 or self.args[2] < 1):
            raise RecipeError(
                f"recipe step slice: axis, start, step and count expected, got {list(self.args)}"
            )
        if (self.op == "cast") != (self.dtype is not None):
            raise RecipeError(
                f"recipe step {self.op}: a dtype is for cast alone, got {self.dtype!r}"
            )
        if self.dtype is not None and self.dtype not in DTYPES:
            raise RecipeError(f"recipe step cast: unknown dtype {self.dtype!r}")
        if self.op == "add" and not isfinite(self.value):
            raise RecipeError(f"recipe step add: the number must be finite, got {self.value}")
        if self.op.startswith("fold_bn") and not (isfinite(self.value) and self.value >= 0):
            raise RecipeError(f"recipe step {self.op}: epsilon must be >= 0, got {self.value}")

    def _check_args(self) -> None:
        if len(self.args) > MAX_RANK or min(self.args) < 0:
            raise RecipeError(f"recipe step {self.op}: invalid arguments {list(self.args)}")
        if self.op not in _AXES and prod(max(n, 1) for n in self.args) > MAX_ELEMENTS:
            raise RecipeError(f"recipe step {self.op}: shape {list(self.args)} is too large")


Recipe = tuple[RecipeStep, ...]


def recipe_sources(recipe: Recipe) -> list[str]:
    """The state_dict keys that a recipe reads, each once."""
    return list(dict.fromkeys(s for step in recipe for s in step.sources if s is not None))


def run_recipe(recipe: Recipe, sources: Mapping[str, Array], name: str = "weight") -> Array:
    """The array that ``recipe`` makes of ``sources`` (state_dict tensors by key), C-contiguous.

    Raises RecipeError naming ``name``, the step and the shapes where a source is missing or does
    not fit.
    """
    current: Array | None = None
    for index, step in enumerate(recipe):
        try:
            given = [None if s is None else sources[s] for s in step.sources]
        except KeyError as error:
            raise RecipeError(f"{name}: the weights have no tensor {error}") from None
        if current is None and step.op not in ("load", "zeros", "full"):
            raise RecipeError(f"{name}: recipe step {index} ({step.op}) has nothing to work on")
        try:
            current = _apply(step, current, given)
        except ValueError as error:
            raise RecipeError(f"{name}: recipe step {index} ({step.op}): {error}") from error
    if current is None:
        raise RecipeError(f"{name}: its recipe is empty")
    # numpy makes one dimension of none.
    return np.ascontiguousarray(current).reshape(current.shape)


def _apply(step: RecipeStep, current: Array | None, given: Sequence[Array | None]) -> Array:
    if step.op == "load":
        (tensor,) = given
        _require_array(tensor)
        return np.asarray(tensor)
    if step.op in ("zeros", "full"):
        return np.full(step.args, step.value if step.op == "full" else 0.0, np.float32)
    _require_array(current)
    array = np.asarray(current)
    match step.op:
        case "fold_bn_weight" | "fold_bn_bias":
            return _fold(step, array, given)
        case "permute":
            if array.ndim != len(step.args):
                raise ValueError(f"axes {list(step.args)} do not fit shape {list(array.shape)}")
            return array.transpose(step.args)
        case "reshape":
            return array.reshape(step.args)
        case "pad":
            return _pad(array, step.args)
        case "add":
            return cast(array, "float32") + np.float32(step.value)
        case "quantize" | "quantize_scale":
            return _quantize(array, scales_only=step.op == "quantize_scale")
        case "weight_norm":
            return _weight_norm(array, given[0], step.args)
        case "append":
            return _append(array, np.asarray(given[0]))
        case "slice":
            return _slice(array, *step.args)
        case "flip":
            if any(axis >= array.ndim for axis in step.args):
                raise ValueError(f"axes {list(step.args)} do not fit shape {list(array.shape)}")
            return np.flip(array, step.args)
        case _:
            return cast(array, str(step.dtype))


def _require_array(value: Array | None) -> None:
    """ValueError for a missing array."""
    if value is None:
        raise ValueError("a required tensor is missing")


def _fold(step: RecipeStep, array: Array, given: Sequence[Array | None]) -> Array:
    gamma, beta, mean, var = (None if g is None else g.astype(np.float64) for g in given)
    _require_array(var)
    channels = array.shape[0] if array.ndim else 0
    for role, statistic in zip(SOURCE_ROLES[step.op], (gamma, beta, mean, var), strict=True):
        if statistic is not None and statistic.shape != (channels,):
            raise ValueError(
                f"{role} has shape {list(statistic.shape)}, the folded tensor {channels} channels"
            )
    with np.errstate(all="ignore"):
        scale = 1.0 / np.sqrt(np.asarray(var) + step.value)
        if gamma is not None:
            scale = scale * gamma
        if step.op == "fold_bn_weight":
            # One rounding to float32; the multiplication itself is exact enough in float32.
            shaped = scale.astype(np.float32).reshape((channels,) + (1,) * (array.ndim - 1))
            folded: Array = np.multiply(array.astype(np.float32, copy=False), shaped)
            return folded
        shifted = (array.astype(np.float64) - np.asarray(mean)) * scale
        return cast(shifted if beta is None else shifted + beta, "float32")


def _append(array: Array, tensor: Array) -> Array:
    # Checkpoints may keep some tensors in more bits than others.
    if array.dtype != tensor.dtype and {array.dtype.name, tensor.dtype.name} <= FLOATING:
        wide = "float64" if "float64" in (array.dtype.name, tensor.dtype.name) else "float32"
        array, tensor = cast(array, wide), cast(tensor, wide)
    if array.ndim == 0 or array.shape[1:] != tensor.shape[1:] or array.dtype != tensor.dtype:
        raise ValueError(
            f"{tensor.dtype} {list(tensor.shape)} does not fit behind "
            f"{array.dtype} {list(array.shape)}"
        )
    return np.concatenate([array, tensor])


def _quantize(array: Array, scales_only: bool) -> Array:
    """Some rows at a time: a weight of a language model in float32 would be a copy too large."""
    if array.ndim == 0 or array.dtype.name not in FLOATING:
        raise ValueError(f"{array.dtype} {list(array.shape)} has no rows of floats to quantise")
    k = array.shape[-1]
    rows = array.reshape(-1, k) if k else array.reshape(prod(array.shape[:-1]), 0)
    scales = np.zeros(len(rows), np.float32)
    values = np.zeros((0 if scales_only else len(rows), k), np.int8)
    step = max(1, _QUANTIZED_AT_ONCE // max(k, 1))
    for first in range(0, len(rows) if k else 0, step):
        wide = rows[first : first + step].astype(np.float32)
        largest = np.maximum(wide.max(-1, keepdims=True), -wide.min(-1, keepdims=True))
        scale = largest / np.float32(127)
        if not np.isfinite(scale).all():
            raise ValueError("values that are not finite cannot be quantised")
        scales[first : first + step] = scale[:, 0]
        if not scales_only:
            # Without a scale a row is zero, or so small that it rounds to zero.
            np.divide(wide, np.where(scale > 0, scale, np.float32(1)), out=wide)
            # Where the scale is subnormal it is coarse, and a multiple may be beyond 127.
            np.clip(np.rint(wide, out=wide), -127, 127, out=wide)
            values[first : first + step] = wide
    result: Array = scales.reshape(array.shape[:-1]) if scales_only else values.reshape(array.shape)
    return result


def _pad(array: Array, shape: tuple[int, ...]) -> Array:
    if array.ndim != len(shape) or any(n > m for n, m in zip(array.shape, shape, strict=True)):
        raise ValueError(f"shape {list(array.shape)} cannot be padded to {list(shape)}")
    if array.shape == shape:
        return array
    padded = np.zeros(shape, array.dtype)
    padded[tuple(slice(0, n) for n in array.shape)] = array
    return padded


def _slice(array: Array, axis: int, start: int, step: int, count: int) -> Array:
    if axis >= array.ndim or (count and start + (count - 1) * step >= array.shape[axis]):
        raise ValueError(
            f"{count} elements from {start} on, {step} apart, are not in axis {axis} of shape "
            f"{list(array.shape)}"
        )
    picked: Array = array[(slice(None),) * axis + (slice(start, None, step),)]
    return picked[(slice(None),) * axis + (slice(0, count),)]


def _weight_norm(array: Array, gain: Array | None, axes: tuple[int, ...]) -> Array:
    _require_array(gain)
    scale = np.asarray(gain, np.float64).reshape(-1)
    if any(axis >= array.ndim for axis in axes):
        raise ValueError(f"axes {list(axes)} do not fit shape {list(array.shape)}")
    extent = array.shape[axes[0]] if axes else 1
    if scale.size != extent:
        raise ValueError(f"the gain has {scale.size} values, {extent} slices are normalised")
    others = tuple(d for d in range(array.ndim) if d not in axes)
    wide = array.astype(np.float64)
    with np.errstate(all="ignore"):
        norm = np.sqrt(np.sum(wide * wide, axis=others, keepdims=True))
        return cast(wide * (scale.reshape(norm.shape) / norm), "float32")
