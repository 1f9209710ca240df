"""Memory of a lowering: storages, and the weights and constants among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npu_compiler.arrays import Array, cast
from npu_compiler.dtypes import FLOATING
from npu_compiler.graph import IRGraph, Value
from npu_compiler.layout import Layout, activation_layout, row_major
from npu_compiler.passes.constants import is_uniform
from npu_compiler.precision import Precision
from npu_compiler.program.recipes import Recipe, RecipeStep, run_recipe
from npu_compiler.target import TargetConfig
from npu_compiler.view import Storage, StorageKind, View


@dataclass(eq=False, slots=True)
class Parameter:
    """A device weight (its recipe) or constant (its value)."""

    storage: Storage
    recipe: Recipe
    data: Array | None


class Memory:
    """Storages under unique names; equal parameters are stored once."""

    def __init__(self, graph: IRGraph, target: TargetConfig, precision: Precision) -> None:
        self.graph = graph
        self.target = target
        self.precision = precision
        self.storages: list[Storage] = []
        self.parameters: list[Parameter] = []
        self._parameters: dict[tuple[object, ...], View] = {}
        self._names: set[str] = set()

    def unique(self, name: str) -> str:
        """``name``, or ``name.2``, ``name.3``, ... where it is taken."""
        found, count = name, 1
        while found in self._names:
            count += 1
            found = f"{name}.{count}"
        self._names.add(found)
        return found

    def _store(
        self,
        name: str,
        kind: StorageKind,
        value: Value | None,
        layout: Layout,
        *,
        shape: tuple[int, ...] | None = None,
        dtype: str | None = None,
        unique: bool = True,
    ) -> Storage:
        ir_dtype = value.dtype if value is not None else str(dtype)
        storage = Storage(
            name=self.unique(name) if unique else name,
            kind=kind,
            dtype=dtype or self.precision.storage(ir_dtype),
            ir_dtype=ir_dtype,
            shape=shape if shape is not None else value.shape if value is not None else (),
            alloc_shape=layout.alloc_shape,
            strides=layout.strides,
            layout=layout.name,
        )
        self.storages.append(storage)
        return storage

    def temporary(self, name: str, shape: Sequence[int], dtype: str) -> View:
        """Row-major arena memory for a step inside a node; ``dtype`` is a storage dtype."""
        layout = row_major(shape)
        return self._store(name, "arena", None, layout, shape=tuple(shape), dtype=dtype).view()

    def image_memory(self, name: str, shape: Sequence[int], dtype: str) -> View:
        """channels_last arena memory with padded channels for a 4-D step inside a node."""
        layout = activation_layout(shape, self.target)
        return self._store(name, "arena", None, layout, shape=tuple(shape), dtype=dtype).view()

    def parameter(
        self,
        value: Value,
        steps: Sequence[RecipeStep],
        dtype: str,
        shape: Sequence[int] | None = None,
    ) -> View:
        """The weight or constant ``value``, transformed by ``steps`` to ``shape``, stored as
        ``dtype``. A constant that is one value throughout is stored once.
        """
        if not steps and self._is_uniform(value):
            return self._one_value(value, dtype).expand(value.shape)
        load = RecipeStep("load", sources=(value.key,))
        name = str(value.key)
        return self.make_parameter(
            name,
            (load, *steps),
            dtype,
            value.shape if shape is None else shape,
            value.kind,
            value.dtype,
        )

    def _is_uniform(self, value: Value) -> bool:
        return value.kind == "constant" and is_uniform(self.graph.constants[str(value.key)])

    def _one_value(self, value: Value, dtype: str) -> View:
        """A uniform constant as a tensor of one element and of its rank."""
        array = self.graph.constants[str(value.key)]
        first = array[tuple(slice(0, 1) for _ in array.shape)]
        return self.constant(str(value.key), cast(first, dtype))

    def make_parameter(
        self,
        name: str,
        steps: Sequence[RecipeStep],
        dtype: str,
        shape: Sequence[int],
        kind: str,
        ir_dtype: str,
    ) -> View:
        """A parameter from a whole recipe; equal recipes share one. Constants are computed now."""
        recipe = tuple(steps)
        if not any(step.op == "cast" for step in recipe):
            recipe = (*recipe, RecipeStep("cast", dtype=dtype))
        key = (recipe, tuple(shape), kind)
        if key not in self._parameters:
            storage = self._store(
                name,
                "constant" if kind == "constant" else "weight",
                None,
                row_major(shape),
                shape=tuple(shape),
                dtype=dtype,
            )
            storage.ir_dtype = ir_dtype
            data = run_recipe(recipe, self.graph.constants, name) if kind == "constant" else None
            self.parameters.append(Parameter(storage, () if kind == "constant" else recipe, data))
            self._parameters[key] = storage.view()
        return self._parameters[key]

    def constant(self, name: str, array: Array) -> View:
        """An array known now, as it is; equal arrays share one constant."""
        data = np.ascontiguousarray(array).reshape(array.shape)
        dtype = str(array.dtype)
        key = (data.tobytes(), data.shape, dtype)
        if key not in self._parameters:
            layout = row_major(data.shape)
            storage = self._store(name, "constant", None, layout, shape=data.shape, dtype=dtype)
            self.parameters.append(Parameter(storage, (), data))
            self._parameters[key] = storage.view()
        return self._parameters[key]

    def fill(self, value: float, dtype: str) -> View:
        """A number as a tensor without dimensions, in a storage dtype."""
        return self.constant("fill", cast(np.asarray(value), dtype))

    def broadcast_parameter(self, value: Value, out: View) -> View:
        """``value`` for an elementwise op that writes ``out``: float32, and padded where ``out``
        is.
        """
        if value.dtype not in FLOATING:
            return self.parameter(value, (), self.precision.storage(value.dtype))
        if self._is_uniform(value):
            return self._one_value(value, "float32")
        dim = None if out.pad is None else out.pad[0] - (len(out.shape) - value.rank)
        if out.pad is None or dim is None or dim < 0 or value.shape[dim] != out.shape[out.pad[0]]:
            return self.parameter(value, (), "float32")
        padded = (*value.shape[:dim], out.pad[1], *value.shape[dim + 1 :])
        whole = self.parameter(value, (RecipeStep("pad", args=padded),), "float32", padded)
        return View(whole.storage, value.shape, whole.strides, 0, (dim, out.pad[1]))
