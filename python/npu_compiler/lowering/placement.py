"""Where the values of a graph lie: which get memory, which share it, which lie within a
concatenation or take over the memory of a donated input.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from npu_compiler.errors import CompileOptionError, CompilerError
from npu_compiler.graph import IRGraph, Node, Value
from npu_compiler.layout import Layout, activation_layout, input_layout, row_major
from npu_compiler.lowering.memory import Memory
from npu_compiler.placement import Slot, plan_slots
from npu_compiler.precision import Precision
from npu_compiler.program.recipes import RecipeStep
from npu_compiler.target import TargetConfig
from npu_compiler.view import Storage, View


class Placement(Memory):
    """The view of every value that has been lowered."""

    def __init__(
        self,
        graph: IRGraph,
        target: TargetConfig,
        precision: Precision,
        donated: Collection[str] = (),
    ) -> None:
        super().__init__(graph, target, precision)
        # Names of graph inputs whose memory outputs may take over.
        self.donated = frozenset(donated)
        # By output slot, the index of the input whose memory it takes over.
        self.donors: dict[int, int] = {}
        self.outputs: list[Storage | None] = [None] * len(graph.outputs)
        self._views: dict[Value, View] = {}
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

    def _place(self, value: Value, view: View) -> None:
        self._views[value] = view
        self._residents.setdefault(view.storage, []).append(value)

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

    def _define_output(self, slot: int, value: Value) -> Storage:
        layout = activation_layout(value.shape, self.target)
        storage = self._store(self.graph.output_names[slot], "output", value, layout)
        self.outputs[slot] = storage
        return storage

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
