"""Weights onto the device: source tensors are checked, then recipes make the device weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np

from npu_compiler.dtypes import FLOATING
from npu_compiler.errors import RecipeError
from npu_compiler.program.recipes import Recipe, recipe_sources, run_recipe
from npu_runtime.buffer import NPUBuffer
from npu_runtime.convert import Array
from npu_runtime.errors import InternalError, WeightError
from npu_runtime.layout import Layout
from npu_runtime.memory import Memory
from npu_runtime.names import listed
from npu_runtime.tensor_files import TensorSource, open_tensors
from npu_runtime.weight_reader import WeightReader, stored_parts
from npu_runtime.weight_set import WeightSet

if TYPE_CHECKING:
    from npu_compiler.compiled_program import CompiledProgram
    from npu_runtime.device import Device

# Buffers of BatchNorm that a state_dict holds and inference has no use for.
_IGNORED_SUFFIX = "num_batches_tracked"
Progress = Callable[[int, int], None]
# Device weights by all that they are made from: recipe and layout.
Made = dict[tuple[object, Layout], NPUBuffer]


def load_weights(
    source: str | os.PathLike[str] | Mapping[str, Any] | TensorSource,
    program: CompiledProgram,
    device: Device,
    *,
    strict: bool = True,
    progress: Progress | None = None,
    made: Made | None = None,
) -> WeightSet:
    """The device weights of a program, from a state_dict in a file or in memory.

    ``source`` is a safetensors path, a directory with ``model.safetensors.index.json`` (or that
    index), a dict of arrays or torch tensors, or a TensorSource of one's own, by state_dict key in
    the model's own shapes. Floating tensors may be of any floating dtype. Files are mapped: what
    needs no computation stays where it is or is read straight into its place. With ``strict`` (the
    default) a tensor that the model does not have is an error. ``progress`` is called with (bytes
    of device weights done, bytes in all). ``made`` collects device weights for programs that share
    them: what is there already is not made again.

    Raises FileError for a file that is missing, damaged or not safetensors, WeightError for
    tensors that are missing, unknown or of the wrong shape or dtype; both before anything is
    uploaded.
    """
    tensors = open_tensors(source)
    check_weights(tensors, program, strict=strict)
    made = {} if made is None else made
    wanted = {
        spec.name: (recipe, Layout.of_spec(spec))
        for spec, recipe in zip(program.weight_specs, program.weight_recipes, strict=True)
    }
    total = sum(key[1].nbytes for key in wanted.values())
    done = 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None and size:
            progress(min(done, total), total)

    added: Made = {}
    computing: dict[tuple[Recipe, Layout], tuple[str, Future[Array]]] = {}

    def complete_oldest() -> None:
        key = next(iter(computing))
        name, result = computing.pop(key)
        added[key] = _upload(result.result(), key[1], device, name)
        advance(key[1].nbytes)

    with WeightReader(tensors, device, advance) as reader:
        for name, key in wanted.items():
            recipe, layout = key
            if key in made or key in added or key in computing:
                advance(layout.nbytes)
                continue
            parts = stored_parts(recipe, layout, tensors)
            if parts is not None:
                added[key] = reader.weight(parts, layout)
                continue
            # No more at once than there are threads: each needs memory of its own.
            if len(computing) >= reader.threads:
                complete_oldest()
            computing[key] = name, reader.submit(_computed, recipe, tensors, name)
        while computing:
            complete_oldest()
        reader.finish()
    advance(total - done)
    made.update(added)
    return WeightSet({name: made[key] for name, key in wanted.items()})


def _computed(recipe: Recipe, tensors: TensorSource, name: str) -> Array:
    """What a recipe makes of the tensors; those are not kept."""
    keys = recipe_sources(recipe)
    try:
        array = run_recipe(recipe, {key: tensors.get(key) for key in keys}, name)
    except RecipeError as error:
        raise WeightError(f"{tensors.label}: {error}") from error
    for key in keys:
        tensors.release(key)
    return array


def check_weights(tensors: TensorSource, program: CompiledProgram, *, strict: bool = True) -> None:
    """Raise one WeightError that lists all that is missing, unknown, misshapen or mistyped."""
    wanted = {t.name: (tuple(t.shape), t.dtype) for t in program.source_tensors}
    known = wanted.keys() | set(program.weight_name_mapping.values())
    check_tensors(tensors, wanted, known, program.model_name, strict=strict)


def check_tensors(
    tensors: TensorSource,
    wanted: Mapping[str, tuple[tuple[int, ...], str]],
    known: Collection[str],
    model_name: str,
    *,
    strict: bool = True,
) -> None:
    """Raise WeightError unless ``tensors`` has all that is ``wanted`` (shape and dtype by name) and
    (with ``strict``) nothing that is not ``known``."""
    given = set(tensors.names())
    problems = []
    missing = [name for name in wanted if name not in given]
    if missing:
        problems.append(f"missing {listed(missing)}")
    for name, (wanted_shape, wanted_dtype) in wanted.items():
        if name not in given:
            continue
        shape, dtype = tensors.describe(name)
        if shape != wanted_shape:
            problems.append(f"{name!r} has shape {list(shape)}, not {list(wanted_shape)}")
        elif dtype != wanted_dtype and not (dtype in FLOATING and wanted_dtype in FLOATING):
            problems.append(f"{name!r} has dtype {dtype}, not {wanted_dtype}")
    if strict:
        extra = [n for n in given - set(known) if n.rpartition(".")[2] != _IGNORED_SUFFIX]
        if extra:
            problems.append(f"unknown {listed(sorted(extra))} (strict=False allows them)")
    if problems:
        shown = problems[:8]
        more = f"; and {len(problems) - len(shown)} more" if len(problems) > len(shown) else ""
        raise WeightError(
            f"{tensors.label}: not the weights of {model_name!r}: {'; '.join(shown)}{more}"
        )


def _upload(array: Array, layout: Layout, device: Device, name: str) -> NPUBuffer:
    """A weight in device memory: the array's own memory where the device can take it."""
    expected = (layout.alloc_shape, layout.dtype)
    if (array.shape, array.dtype) != expected:
        raise InternalError(
            f"weight {name!r}: its recipe makes {array.dtype}{list(array.shape)}, "
            f"the program declares {layout}"
        )
    # As bytes: the buffer protocol has no word for bfloat16.
    data = array.reshape(-1).view(np.uint8)
    if data.nbytes == layout.nbytes:
        return NPUBuffer(Memory(device.native.wrap(data)), layout, device)
    native = device.native.allocate(layout.nbytes)
    native.upload(0, data)
    return NPUBuffer(Memory(native), layout, device)
