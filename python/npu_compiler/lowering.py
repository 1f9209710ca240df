"""Lowering: nodes become kernel dispatches over views of storages.

A Lowering holds where every value lies. Op records call it to read operands, define results and
emit dispatches; values that are only views of others get no memory. What is decided here is
logical; codegen turns it into a program.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npu_compiler.arrays import Array, cast
from npu_compiler.dtypes import FLOATING
from npu_compiler.elementwise import Builder
from npu_compiler.elementwise_dispatch import emit_program
from npu_compiler.errors import CompileOptionError, CompilerError, ConstraintError
from npu_compiler.graph import IRGraph, Node, Source, Value
from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.record import Kernel
from npu_compiler.layout import Layout, activation_layout, input_layout, row_major
from npu_compiler.ops.record import COPYABLE
from npu_compiler.passes.constants import is_uniform
from npu_compiler.placement import Slot, plan_slots
from npu_compiler.precision import Precision
from npu_compiler.program.recipes import Recipe, RecipeStep, run_recipe
from npu_compiler.target import TargetConfig
from npu_compiler.view import Storage, StorageKind, View


@dataclass(slots=True)
class Dispatch:
    """One kernel launch before it is encoded. ``is_copy``: it only moves data."""

    kernel: Kernel
    operands: dict[str, View | None]
    fields: dict[str, Any]
    name: str
    source: Source | None
    node: Node | None
    is_copy: bool = False


@dataclass(eq=False, slots=True)
class Parameter:
    """A device weight (its recipe) or constant (its value)."""

    storage: Storage
    recipe: Recipe
    data: Array | None


class Lowering:
    """State of one lowering; see the module's text."""

    def __init__(
        self,
        graph: IRGraph,
        target: TargetConfig,
        precision: Precision,
        donated: Collection[str] = (),
    ) -> None:
        self.graph = graph
        self.target = target
        self.precision = precision
        # Names of graph inputs whose memory outputs may take over.
        self.donated = frozenset(donated)
        # By output slot, the index of the input whose memory it takes over.
        self.donors: dict[int, int] = {}
        self.storages: list[Storage] = []
        self.dispatches: list[Dispatch] = []
        self.parameters: list[Parameter] = []
        self.outputs: list[Storage | None] = [None] * len(graph.outputs)
        # Copies of values inside of the graph that the program returns as well, by value name.
        self.kept: dict[str, Storage] = {}
        self._views: dict[Value, View] = {}
        self._parameters: dict[tuple[object, ...], View] = {}
        self._names: set[str] = set()
        self._copies: dict[tuple[View, str], View] = {}
        # The values that lie in a storage, whole or in part, and the step of the last node that
        # reads each value; nothing is known before ``schedule``.
        self._residents: dict[Storage, list[Value]] = {}
        self._last_reads: dict[Value, int] | None = None
        self._steps: dict[Node, int] = {}
        self._slots = plan_slots(graph)
        self._output_slots: dict[Value, int] = {}
        for slot, value in enumerate(graph.outputs):
            if value.kind == "node":
                self._output_slots.setdefault(value, slot)
        # Names of inputs and outputs are the user's: they are taken before anything else.
        self._names.update(value.name for value in graph.inputs)
        for value in graph.inputs:
            donates = value.name in self.donated
            layout = row_major(value.shape) if donates else input_layout(value.shape, target)
            storage = self._store(value.name, "input", value, layout, unique=False)
            self._place(value, storage.view())

    def schedule(self, steps: Mapping[Node, int]) -> None:
        """Say at which step each node will be lowered: memory whose values no later step reads may
        be written in place.
        """
        self._steps = dict(steps)
        self._last_reads = {}
        for node in self.graph.nodes:
            for value in node.inputs():
                last = self._last_reads.get(value, -1)
                self._last_reads[value] = max(last, self._steps[node])

    # Memory.

    def _place(self, value: Value, view: View) -> None:
        self._views[value] = view
        self._residents.setdefault(view.storage, []).append(value)

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

    def define(self, value: Value, *, image: bool, strided: bool = False) -> View:
        """Memory for a node's result: an output buffer if it is one, else in the arena. ``image``:
        a 4-D result is channels_last with padded channels (outputs always are), else row_major.
        ``strided``: the caller can write any strides, so the result may lie within a concatenation
        that will want it.
        """
        if value in self._views:
            return self._views[value]
        if strided and value in self._slots:
            place = self._slot(value, image)
            if place is not None:
                self._place(value, place)
                return place
        slot = self._output_slots.get(value)
        if slot is not None and self.outputs[slot] is None:
            storage = self._define_output(slot, value)
        else:
            layout = (
                activation_layout(value.shape, self.target) if image else row_major(value.shape)
            )
            storage = self._store(value.name, "arena", value, layout)
        self._place(value, storage.view())
        return self._views[value]

    def _slot(self, value: Value, image: bool) -> View | None:
        """The place of ``value`` in a concatenation, whose memory is defined now if it is not yet;
        None where its layout is another.
        """
        slot = self._slots[value]
        whole = self.define(slot.whole, image=image, strided=True)
        layout = activation_layout(value.shape, self.target) if image else row_major(value.shape)
        return slot.of(whole) if whole.storage.layout == layout.name else None

    def fill_slot(self, value: Value, slot: Slot) -> tuple[View, View] | None:
        """Where ``value`` lies and where its concatenation wants it; None where both are one."""
        source, place = self.read(value), slot.of(self._views[slot.whole])
        same = source.storage is place.storage and (
            source.shape,
            source.strides,
            source.offset,
        ) == (
            place.shape,
            place.strides,
            place.offset,
        )
        return None if same else (source, place)

    def update(self, node: Node, base: Value, output: Value | None = None) -> View:
        """Where ``node`` may write ``output`` (its first result), a new version of ``base`` that
        starts as a copy of it: the memory of ``base`` itself where nothing else needs it any more.
        """
        output = node.output if output is None else output
        view = self.read(base)
        if self.may_overwrite(node, base, output):
            self.overwrite(node, view, output)
            return view
        out = self.define(output, image=self.is_image(base))
        self.copy(view, out, node, name=f"{'+'.join(node.origins)}.copy")
        return out

    def may_overwrite(self, node: Node, base: Value, output: Value | None = None) -> bool:
        """Whether ``node`` is the last to need ``base`` and all that shares memory with it."""
        view = self.read(base)
        storage = view.storage
        donated = storage.kind == "input" and storage.name in self.donated
        if self._last_reads is None or not (donated or storage.kind == "arena"):
            return False
        output = node.output if output is None else output
        if output in self._output_slots and not donated:
            return False
        if any(n > 1 and s == 0 for n, s in zip(view.shape, view.strides, strict=True)):
            return False
        step = self._steps[node]
        last = {v: self._last_reads.get(v, -1) for v in self._residents[storage]}
        kept = set(self.graph.outputs)
        return list(node.inputs()).count(base) == 1 and not any(
            value in kept or read > step or (read == step and value is not base)
            for value, read in last.items()
        )

    def overwrite(self, node: Node, view: View, output: Value | None = None) -> None:
        """Say that ``node``'s result (``output``, by default its first) lies where ``view`` shows,
        which it writes in place.
        """
        stale = [key for key in self._copies if key[0].storage is view.storage]
        for key in stale:
            del self._copies[key]
        self.alias(node.output if output is None else output, view)

    def _define_output(self, slot: int, value: Value) -> Storage:
        layout = activation_layout(value.shape, self.target)
        storage = self._store(self.graph.output_names[slot], "output", value, layout)
        self.outputs[slot] = storage
        return storage

    def temporary(self, name: str, shape: Sequence[int], dtype: str) -> View:
        """Row-major arena memory for a step inside a node; ``dtype`` is a storage dtype."""
        layout = row_major(shape)
        return self._store(name, "arena", None, layout, shape=tuple(shape), dtype=dtype).view()

    def alias(self, value: Value, view: View) -> None:
        """Say that ``value`` lies where ``view`` shows."""
        if view.shape != value.shape:
            raise CompilerError(
                f"{value.name}: the IR declares {list(value.shape)}, its view is {list(view.shape)}"
            )
        self._place(value, view)

    def read(self, value: Value) -> View:
        """Where ``value`` lies; a parameter is loaded in its storage dtype, row_major."""
        if value in self._views:
            return self._views[value]
        if value.is_parameter:
            return self.parameter(value, (), self.precision.storage(value.dtype))
        raise CompilerError(f"{value.name} is read before it is computed")

    def is_image(self, *values: Value) -> bool:
        """Whether one of these 4-D values lies channels_last, so that a result should, too."""
        views = [self.read(v) for v in values if v.rank == 4 and not v.is_parameter]
        return any(v.strides[1] == 1 and v.storage.layout == "channels_last" for v in views)

    # Parameters.

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

    def channel_parameter(self, value: Value, out: View) -> View:
        """A 1-D ``value`` with one element per channel (dimension 1 of ``out``), for an elementwise
        op that writes ``out``."""
        padded_channels = out.pad is not None and out.pad[0] == 1 and value.shape[0] == out.shape[1]
        if value.is_parameter and out.pad is not None and padded_channels:
            padded = (out.pad[1],)
            steps = (RecipeStep("pad", args=padded),)
            whole = self.parameter(value, steps, "float32", padded)
            view = View(whole.storage, value.shape, (1,), 0, (0, out.pad[1]))
        else:
            view = self.parameter(value, (), "float32") if value.is_parameter else self.read(value)
        for _ in range(len(out.shape) - 2):
            view = view.insert(1)
        return view

    # Dispatches.

    def dispatch(
        self,
        kernel: str,
        node: Node | None,
        fields: Mapping[str, Any],
        operands: Mapping[str, View | None],
        *,
        name: str | None = None,
        is_copy: bool = False,
    ) -> None:
        """Emit a launch of ``kernel``; none where it would write nothing."""
        written = [operands[o.name] for o in KERNELS[kernel].operands if o.access == "write"]
        if not any(view is not None and view.numel for view in written):
            return
        label = name or ("+".join(node.origins) if node is not None else kernel)
        source = None if node is None else node.source
        self.dispatches.append(
            Dispatch(
                KERNELS[kernel], dict(operands), dict(fields), label, source, node, is_copy=is_copy
            )
        )

    def copy(self, source: View, into: View, node: Node | None, name: str | None = None) -> None:
        """Copy elements (converting the dtype), and zero the padding of ``into``."""
        builder = Builder()
        emit_program(self, into, builder, builder.load(source), node, name=name, is_copy=True)

    def contiguous(self, view: View, node: Node, dtype: str | None = None) -> View:
        """``view`` in row-major order (and as ``dtype``): itself if it is already, else a copy."""
        if view.is_contiguous and dtype in (None, view.dtype):
            return view
        key = (view, dtype or view.dtype)
        if key not in self._copies:
            into = self.temporary(f"{node.name}.copy", view.shape, dtype or view.dtype)
            self.copy(view, into, node, name=f"{node.name}.copy")
            self._copies[key] = into
        return self._copies[key]

    def image_memory(self, name: str, shape: Sequence[int], dtype: str) -> View:
        """channels_last arena memory with padded channels for a 4-D step inside a node."""
        layout = activation_layout(shape, self.target)
        return self._store(name, "arena", None, layout, shape=tuple(shape), dtype=dtype).view()

    def images(self, view: View, node: Node) -> View:
        """A copy of a 4-D ``view`` that is channels_last with padded channels."""
        name = f"{node.name}.copy"
        into = self.image_memory(name, view.shape, view.dtype)
        self.copy(view, into, node, name=name)
        return into

    def zero_padding(self, view: View, node: Node | None, name: str) -> None:
        """Fill the padding of ``view`` with zeros."""
        builder = Builder()
        zero = builder.constant(0.0)
        emit_program(
            self,
            view.padding_only(),
            builder,
            builder.result_for(zero, view.dtype),
            node,
            name=name,
        )

    def keep(self, value: Value) -> None:
        """Return a copy of ``value``, as it is now, behind the outputs. Changes nothing else: the
        memory plan, fusion and updates in place are those of the program without it.
        """
        if value in self._output_slots or value not in self._views or value.name in self.kept:
            return
        view = self._views[value]
        layout = activation_layout(value.shape, self.target)
        storage = self._store(f"{value.name}.kept", "output", value, layout)
        self.kept[value.name] = storage
        self.copy(view, storage.view(), None, name=storage.name)

    def finish_outputs(self) -> None:
        """Copy into their buffers the outputs that no dispatch wrote: inputs, parameters, views,
        repetitions.
        """
        for slot, value in enumerate(self.graph.outputs):
            if self.outputs[slot] is None and not self._take_donation(slot, value):
                if value.dtype not in COPYABLE:
                    raise ConstraintError(
                        f"output {self.graph.output_names[slot]!r} is {value.dtype} and no node "
                        f"computes it; the NPU can copy only {', '.join(sorted(COPYABLE))}"
                    )
                source = self.read(value)
                storage = self._define_output(slot, value)
                self.copy(source, storage.view(), None, name=f"{storage.name}.copy")

    def _take_donation(self, slot: int, value: Value) -> bool:
        """Let the output take over the memory of the donated input that it lies in; False where it
        lies elsewhere.
        """
        view = self._views.get(value)
        if view is None or view.storage.kind != "input" or view.storage.name not in self.donated:
            return False
        storage = view.storage
        names = [v.name for v in self.graph.inputs]
        donor = names.index(storage.name)
        whole = storage.view()
        # A stride along a dimension of one element says nothing.
        strides = zip(view.shape, view.strides, whole.strides, strict=False)
        same = (
            view.shape == whole.shape
            and view.offset == whole.offset
            and all(n == 1 or own == other for n, own, other in strides)
        )
        if not same or value.dtype != storage.ir_dtype or donor in self.donors.values():
            return False
        layout = Layout(storage.layout, storage.alloc_shape, storage.strides)
        self.outputs[slot] = self._store(self.graph.output_names[slot], "output", value, layout)
        self.donors[slot] = donor
        return True

    def check_donations(self) -> None:
        """Raise CompileOptionError for a donated input whose memory no output has taken over."""
        taken = set(self.donors.values())
        for index, value in enumerate(self.graph.inputs):
            if value.name in self.donated and index not in taken:
                raise CompileOptionError(
                    f"input {value.name!r} is donated, but no output can take over its memory: "
                    "none is this tensor with elements replaced in place, or something reads the "
                    "old content later; leave it out of donate_inputs"
                )
