"""A program, its device and its weights, opened together, as the commands need them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_compiler.compiled_program import CompiledProgram
from npu_runtime import Device, Executor, load_weights
from npu_runtime.errors import FileError
from npu_runtime.weight_set import WeightSet
from npu_sim.errors import UsageError


@dataclass(frozen=True)
class Session:
    """Everything that a run needs but its inputs."""

    program: CompiledProgram
    device: Device
    executor: Executor
    weights: WeightSet

    @classmethod
    def open(
        cls,
        program: Path,
        weights: Path | None,
        device: str | None,
        *,
        random: bool = False,
        on_weight: Callable[[int, int], None] | None = None,
    ) -> Session:
        """Load a program and its weights; with ``random``, they are drawn where no file is.

        ``on_weight`` is called with (bytes of weights loaded, bytes in all).
        """
        loaded = CompiledProgram.load(str(program))
        if weights is None and loaded.source_tensors and not random:
            raise UsageError(
                f"{program} needs {len(loaded.source_tensors)} weight tensors: give a safetensors "
                "file with --weights"
            )
        target = Device(device)
        executor = Executor(loaded, target)
        source: Any = random_weights(loaded) if weights is None else weights
        bound = load_weights(source, loaded, target, progress=on_weight)
        executor.bind(bound)
        return cls(loaded, target, executor, bound)


def random_weights(program: CompiledProgram, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Weights of the right shapes that keep activations finite, to time a program with."""
    draw = np.random.default_rng(seed)
    arrays: dict[str, NDArray[Any]] = {}
    for tensor in program.source_tensors:
        if len(tensor.shape) > 1:
            fan_in = max(1, int(np.prod(tensor.shape[1:])))
            array = draw.standard_normal(tensor.shape, np.float32) * np.sqrt(2 / fan_in)
        else:
            # Vectors are scales, shifts and variances: all of them are fine between 0.5 and 1.
            array = draw.uniform(0.5, 1.0, tensor.shape)
        arrays[tensor.name] = array.astype(np.float32)
    return arrays


def random_inputs(program: CompiledProgram, seed: int = 0) -> dict[str, NDArray[Any]]:
    """An array for each input: normal floats, zeros for the rest (valid as an index and a mask)."""
    draw = np.random.default_rng(seed)
    arrays: dict[str, NDArray[Any]] = {}
    for spec in program.input_specs:
        if "float" in spec.dtype:
            arrays[spec.name] = draw.standard_normal(spec.shape, np.float32)
        else:
            arrays[spec.name] = np.zeros(spec.shape, spec.dtype)
    return arrays


def read_inputs(assignments: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Arrays from ``NAME=FILE`` arguments; ``.npy`` files only, nothing in them is executed."""
    arrays: dict[str, NDArray[Any]] = {}
    for text in assignments:
        name, sign, file = text.partition("=")
        if not sign or not name or not file:
            raise UsageError(f"--input {text!r}: NAME=FILE expected, such as input=image.npy")
        if name in arrays:
            raise UsageError(f"--input {name!r} is given twice")
        try:
            array = np.load(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise FileError(f"{file}: not a .npy file ({error})") from error
        if not isinstance(array, np.ndarray):
            raise FileError(f"{file}: holds several arrays; save one with np.save")
        arrays[name] = array
    return arrays
