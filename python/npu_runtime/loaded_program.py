"""LoadedProgram: a program on a device, with its weights, for the executors of its entries."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from npu_compiler.cache import CacheWarning
from npu_runtime import _native
from npu_runtime.buffer import NPUBuffer
from npu_runtime.errors import ArgumentError, ProgramError, WeightError
from npu_runtime.layout import Layout
from npu_runtime.names import pick
from npu_runtime.weight_set import WeightSet

if TYPE_CHECKING:
    from npu_compiler.compiled_program import CompiledProgram
    from npu_runtime.device import Device


class LoadedProgram:
    """The verified program, made ready for one device, and the weights that it was bound with last.
    Safe to use from several threads at once.
    """

    def __init__(self, program: CompiledProgram, device: Device) -> None:
        self.program = program
        self.device = device
        self.native = _native_program(program)
        self.executable = device.native.load(self.native)
        for note in device.notes:
            warnings.warn(note, CacheWarning, stacklevel=3)
        self._weight_names = [spec.name for spec in program.weight_specs]
        self._weight_layouts = [Layout.of_spec(spec) for spec in program.weight_specs]
        # What was bound last: the weights, NPUBuffer.changes at that time, the binding. Replaced
        # as a whole, so that threads see one or the other.
        self._bound: tuple[WeightSet | None, int, _native.Binding | None] = (None, -1, None)

    def binding(self, weights: Mapping[str, NPUBuffer]) -> _native.Binding:
        """The binding of these weights, made anew where one of them has changed."""
        bound_set, changes, binding = self._bound
        if (
            binding is not None
            and changes == NPUBuffer.changes
            and (weights is bound_set or self._is_dict_of(weights, bound_set))
        ):
            return binding
        # Read before binding: a change that comes in between is then seen by the next run.
        changes = NPUBuffer.changes
        weight_set = self._weight_set(weights, bound_set)
        binding = weight_set.binding(self, self.executable)
        self._bound = (weight_set, changes, binding)
        return binding

    def _is_dict_of(self, weights: Mapping[str, NPUBuffer], last: WeightSet | None) -> bool:
        """Whether a plain dict holds the very buffers that were bound last."""
        return (
            last is not None
            and isinstance(weights, dict)
            and len(weights) == len(last)
            and last.holds([weights.get(name) for name in self._weight_names])
        )

    def _weight_set(self, weights: Mapping[str, NPUBuffer], last: WeightSet | None) -> WeightSet:
        """The weights in program order: the caller's set itself, the last one, or a new one."""
        if not isinstance(weights, Mapping):
            raise WeightError(f"weights of type {type(weights).__name__}: use load_weights")
        try:
            buffers = pick(weights, self._weight_names, {}, "weight")
        except ArgumentError as error:
            raise WeightError(str(error)) from None
        if last is not None and last.holds(buffers):
            return last
        for name, buffer, layout in zip(
            self._weight_names, buffers, self._weight_layouts, strict=True
        ):
            if not isinstance(buffer, NPUBuffer):
                raise WeightError(
                    f"weight {name!r} is a {type(buffer).__name__}, not an NPUBuffer: "
                    "use load_weights"
                )
            try:
                check_buffer(buffer, layout, self.device, f"weight {name!r}")
            except ArgumentError as error:
                raise WeightError(f"{error}; weights come from load_weights") from None
        if isinstance(weights, WeightSet) and weights.holds(buffers):
            return weights
        return WeightSet(dict(zip(self._weight_names, buffers, strict=True)))


def check_buffer(buffer: NPUBuffer, layout: Layout, device: Device, what: str) -> None:
    """Raise ArgumentError naming ``what`` unless the buffer lies on ``device`` in ``layout``."""
    if buffer.device is not device and buffer.device != device:
        raise ArgumentError(
            f"{what} lies on device {buffer.device.kind!r}, the program runs on "
            f"{device.kind!r}: upload it there"
        )
    if buffer.layout is layout or buffer.layout == layout:
        return
    same = buffer.shape == layout.shape and buffer.dtype == layout.dtype
    detail = f"strides {buffer.layout.strides}, not {layout.strides}" if same else str(layout)
    raise ArgumentError(
        f"{what} is {buffer.layout}, the program takes {detail}: "
        "make it with NPUBuffer.from_numpy(array, device, spec=…) and the program's spec"
    )


_loaded: WeakValueDictionary[tuple[int, int], LoadedProgram] = WeakValueDictionary()
_loading = threading.Lock()


def load_program(program: CompiledProgram, device: Device) -> LoadedProgram:
    """The program on the device; executors that live at the same time share it.

    Raises ProgramError where the program's file has become another one.
    """
    # A loaded program keeps both objects alive, so that their ids are not given again.
    key = (id(program), id(device.native))
    with _loading:
        known = _loaded.get(key)
        if known is None:
            known = _loaded[key] = LoadedProgram(program, device)
        return known


def _native_program(program: CompiledProgram) -> _native.Program:
    """The program, verified by the native reader; its file is mapped where it has one."""
    if program.path is None:
        return _native.Program.from_bytes(program.to_bytes())
    native = _native.Program.from_file(program.path)
    # The file may be another one by now: everything that this module relies on is compared.
    entries = [program.entry(entry.name) for entry in program.entry_points]
    found = (
        native.dispatches,
        native.weight_sizes,
        [(e.name, e.input_names, e.output_names) for e in native.entry_points],
    )
    known = (
        [(call.name, call.kernel_name) for call in program.kernel_calls],
        [program.buffer_allocations[spec.buffer].size_bytes for spec in program.weight_specs],
        [
            (e.name, [s.name for s in e.input_specs], [s.name for s in e.output_specs])
            for e in entries
        ],
    )
    if found != known:
        raise ProgramError(
            f"{program.path} holds another program than the one that was loaded from it or saved "
            "to it: load it again"
        )
    return native
