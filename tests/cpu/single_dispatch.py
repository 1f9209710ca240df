"""One kernel as a whole program: built, verified and run on a device through the native module."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_compiler.dtypes import DTYPES
from npu_compiler.kernels import KERNELS
from npu_compiler.program.schema import NONE, RECIPE_OPS
from npu_runtime import _native
from tests.reference.layouts import Placed
from tests.runtime_native.npubin_builder import Builder, align

Array = NDArray[Any]
Fields = Mapping[str, int | float | Sequence[int | float]]


@cache
def device(kind: str) -> _native.Device:
    """The device of a kind; one for all tests."""
    return _native.Device(kind)


def place(rng: np.random.Generator, values: Array) -> Array:
    """``values`` with a random order of axes and poison between them."""
    placed = Placed(rng, values.shape, values.dtype)
    placed.array[...] = values
    return placed.array


def _owner(array: Array) -> Array:
    """The array that owns the memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


class SingleDispatch:
    """A program of one dispatch over ``operands`` (arrays of any strides; None: absent).

    Names in ``weights`` are bound once and prepared; an input that shares its memory with an output
    is donated to it.
    """

    def __init__(
        self,
        kernel: str,
        operands: Mapping[str, Array | None],
        fields: Fields,
        weights: Collection[str] = (),
        kind: str = "cpu",
    ) -> None:
        self._device = device(kind)
        record = KERNELS[kernel]
        b = Builder()
        views: dict[str, dict[str, Any]] = {}
        ios: dict[str, list[int]] = {"input": [], "output": []}
        self._blocks: dict[str, list[Array]] = {"input": [], "output": [], "weight": []}
        for o in record.operands:
            array = operands.get(o.name)
            if array is None:
                continue
            role = "output" if o.access == "write" else "weight" if o.name in weights else "input"
            block = _owner(array)
            tensor = self._tensor(b, o.name, role, block, DTYPES[array.dtype.name].short)
            views[o.name] = {
                **b.view(tensor, array.shape, tuple(s // array.itemsize for s in array.strides)),
                "offset": _address(array) - _address(block),
            }
            self._blocks[role].append(block)
            if role != "weight":
                ios[role].append(tensor)
        for role in ("input", "output"):
            for tensor, block in zip(ios[role], self._blocks[role], strict=True):
                same = [i for i, x in enumerate(self._blocks["input"]) if x is block]
                donor = same[0] if role == "output" and same else NONE
                b.add("IOS", name=b.sections["TENSORS"][tensor]["name"], tensor=tensor, donor=donor)
        b.dispatch(kernel, kernel, views, dict(fields))
        inputs, outputs = len(ios["input"]), len(ios["output"])
        b.add(
            "ENTRY_POINTS", name="main", dispatch_first=0, dispatch_count=1, input_first=0,
            input_count=inputs, output_first=inputs, output_count=outputs,
        )  # fmt: skip
        self._executable = self._device.load(_native.Program.from_bytes(b.build()))
        self._binding = self._executable.bind([self._buffer(x) for x in self._blocks["weight"]])

    @staticmethod
    def _tensor(b: Builder, name: str, role: str, block: Array, dtype: str) -> int:
        """A tensor over a whole block of memory, with the records that its role needs."""
        buffer = b.buffer(name, role, block.nbytes)
        count = block.nbytes // next(d.size for d in DTYPES.values() if d.short == dtype)
        tensor = b.tensor(name, buffer, (count,), dtype)
        if role == "weight":
            ident = b.sections["TENSORS"][tensor]["dtype"]
            source = b.add("SOURCE_TENSORS", name=name, dtype=ident, rank=1, shape=(count,))
            first = b.add("RECIPES", op=RECIPE_OPS["load"], sources=(source, NONE, NONE, NONE))
            b.add("RECIPES", op=RECIPE_OPS["cast"], sources=(NONE,) * 4, dtype=ident)
            b.add("WEIGHTS", tensor=tensor, recipe_first=first, recipe_count=2)
        return tensor

    def _buffer(self, block: Array) -> _native.Buffer:
        buffer = self._device.allocate(align(block.nbytes))
        buffer.upload(0, block.reshape(-1).view(np.uint8))
        return buffer

    def run(self) -> list[Array]:
        """Runs once on the arrays as they are now; returns the output blocks' bytes."""
        inputs = [self._buffer(x) for x in self._blocks["input"]]
        outputs = []
        for block in self._blocks["output"]:
            same = [i for i, x in enumerate(self._blocks["input"]) if x is block]
            outputs.append(inputs[same[0]] if same else self._buffer(block))
        self._executable.run(self._binding, 0, inputs, outputs)
        results = []
        for block, buffer in zip(self._blocks["output"], outputs, strict=True):
            result = np.empty(align(block.nbytes), np.uint8)
            buffer.download(0, result)
            results.append(result[: block.nbytes])
        return results

    def run_in_place(self) -> None:
        """Runs once and puts the results into the output arrays."""
        for block, result in zip(self._blocks["output"], self.run(), strict=True):
            block.reshape(-1).view(np.uint8)[...] = result


def run_kernel(
    kernel: str,
    operands: Mapping[str, Array | None],
    fields: Fields,
    *,
    weights: Collection[str] = (),
    kind: str = "cpu",
) -> None:
    """Run a kernel over arrays; the outputs are written."""
    SingleDispatch(kernel, operands, fields, weights, kind).run_in_place()
