"""Lowering: nodes become kernel dispatches over views of storages.

A Lowering holds where every value lies. Op records call it to read operands, define results and
emit dispatches; values that are only views of others get no memory. What is decided here is
logical; codegen turns it into a program.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from npu_compiler.elementwise import Builder
from npu_compiler.elementwise_dispatch import emit_program
from npu_compiler.errors import ConstraintError
from npu_compiler.graph import IRGraph, Node, Source, Value
from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.record import Kernel
from npu_compiler.layout import activation_layout
from npu_compiler.lowering.memory import Parameter
from npu_compiler.lowering.placement import Placement
from npu_compiler.ops.record import COPYABLE
from npu_compiler.precision import Precision
from npu_compiler.target import TargetConfig
from npu_compiler.view import Storage, View

__all__ = ["Dispatch", "Lowering", "Parameter"]


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


class Lowering(Placement):
    """State of one lowering; see the module's text."""

    def __init__(
        self,
        graph: IRGraph,
        target: TargetConfig,
        precision: Precision,
        donated: Collection[str] = (),
    ) -> None:
        super().__init__(graph, target, precision, donated)
        self.dispatches: list[Dispatch] = []
        # Copies of values inside of the graph that the program returns as well, by value name.
        self.kept: dict[str, Storage] = {}
        self._copies: dict[tuple[View, str], View] = {}

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

    def overwrite(self, node: Node, view: View, output: Value | None = None) -> None:
        """Say that ``node``'s result (``output``, by default its first) lies where ``view`` shows,
        which it writes in place.
        """
        stale = [key for key in self._copies if key[0].storage is view.storage]
        for key in stale:
            del self._copies[key]
        self.alias(node.output if output is None else output, view)

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
