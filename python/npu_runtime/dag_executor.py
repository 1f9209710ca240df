"""DAGExecutor: runs a partitioned model, its NPU segments on a device and the others on the CPU."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from npu_compiler.dtypes import DTYPES
from npu_compiler.errors import NpuError
from npu_compiler.ir_constants import read_constants
from npu_compiler.names import aliases
from npu_compiler.partitioning.plan import Partition, PartitionPlan, TransferOp, plain_dtype
from npu_compiler.target import TargetConfig
from npu_runtime.backend import Backend, DeviceBackend
from npu_runtime.buffer import NPUBuffer
from npu_runtime.convert import Array, as_array, check_cast, fetch
from npu_runtime.cpu_fallback import require_torch_ir, to_array
from npu_runtime.dag_segments import CpuSegment, NpuSegment, Segment, Values, naming
from npu_runtime.device import Device
from npu_runtime.dtypes import numpy_dtype
from npu_runtime.errors import ArgumentError, FileError, WeightError
from npu_runtime.names import NamedOutputs, listed, pick
from npu_runtime.tensor_files import ArraySource, TensorSource, open_tensors
from npu_runtime.weight_loader import Made, check_tensors

Progress = Callable[[int, int], None]
# Files that only PyTorch reads.
_TORCH_SUFFIXES = frozenset({".pt", ".pth", ".bin"})


class DAGExecutor:
    """Runs a PartitionPlan. Safe to use from several threads at once.

    NPU segments are compiled here, once, all with the plan's compute dtype; what passes from one
    to the next stays on the device. CPU segments run with PyTorch in the IR's own dtypes. Weights
    that the model writes to (a cache, running statistics) keep their state from run to run;
    ``load_weights`` resets it.

    Args:
        plan: what ``npu_compiler.partition`` returned.
        backend: where NPU segments run (a Backend, a Device or its kind); the fastest by default.
        target: the NPU that segments are compiled for.
        progress: called with (segments done, segments in all).

    Raises:
        ConstraintError, UnsupportedOpError: a segment does not compile, which only happens where
            the partition's callback promised too much; names the segment and its nodes.
        MissingDependencyError: there are CPU segments and PyTorch is not installed.
    """

    def __init__(
        self,
        plan: PartitionPlan,
        backend: Backend | Device | str | None = None,
        *,
        target: TargetConfig | None = None,
        progress: Progress | None = None,
    ) -> None:
        if not isinstance(plan, PartitionPlan):
            raise ArgumentError(
                f"plan of type {type(plan).__name__}: give what npu_compiler.partition returned"
            )
        self._plan = plan
        self._backend = backend if isinstance(backend, Backend) else DeviceBackend(backend)
        self._prepare(target or TargetConfig(), progress)
        ir = plan.original_ir
        self._inputs = {t["name"]: _meta(t) for t in ir["graph_inputs"]}
        self._input_names = list(self._inputs)
        self._input_aliases = aliases("input", self._input_names)
        self._sources = [t["name"] for t in ir["graph_outputs"]]
        self._output_names = _unique(self._sources)
        self._output_aliases = aliases("output", self._output_names)
        self._mapping: dict[str, str] = dict(ir.get("weight_name_mapping", {}))
        self._given: dict[str, Array] | None = None
        self._find_wanted()
        stateful = any(segment.stateful for segment in self._segments)
        self._whole = self._only_segment()
        self._lock: Any = threading.Lock() if stateful else nullcontext()

    def _prepare(self, target: TargetConfig, progress: Progress | None) -> None:
        plan = self._plan
        partitions = plan.partitions
        self._made = {name for p in partitions for name in p.output_names}
        readers = Counter(name for p in partitions if p.target == "npu" for name in p.input_names)
        often = {name for name, count in readers.items() if count > 1}
        made_on_npu: set[str] = set()
        self._specs: dict[str, Any] = {}
        self._steps: list[tuple[Segment | TransferOp, list[str]]] = []
        self._segments: list[Segment] = []
        frees = self._last_uses()
        for index, step in enumerate(plan.steps):
            if isinstance(step, TransferOp):
                self._steps.append((step, frees[index]))
                continue
            segment: Segment
            with naming(step):
                if step.target == "npu":
                    segment = NpuSegment(plan, step, self._backend, target, made_on_npu, often)
                    self._specs.update(segment.specs)
                    made_on_npu.update(step.output_names)
                else:
                    segment = CpuSegment(plan, step)
            self._segments.append(segment)
            self._steps.append((segment, frees[index]))
            if progress is not None:
                progress(len(self._segments), len(partitions))

    def _last_uses(self) -> list[list[str]]:
        """For each step, the tensors that nothing reads after it."""
        seen = {t["name"] for t in self._plan.original_ir["graph_outputs"]}
        frees: list[list[str]] = []
        for step in reversed(self._plan.steps):
            names: list[str] = []
            if isinstance(step, Partition):
                names = [n for n in (*step.input_names, *step.output_names) if n not in seen]
                seen.update(names)
            frees.append(names)
        return frees[::-1]

    def _find_wanted(self) -> None:
        """Which weights the run needs, by key: of the segments, and those returned as they are."""
        ir = self._plan.original_ir
        weights = {w["name"]: _meta(w) for w in ir.get("weights", ())}
        self._tied: dict[str, list[str]] = {}
        for key, first in ir.get("tied_weights", {}).items():
            self._tied.setdefault(first, [first]).append(key)
        for group in list(self._tied.values()):
            self._tied.update((key, group) for key in group)
        partitions = self._plan.partitions
        nodes = [node for partition in partitions for node in partition.nodes]
        read = {t["name"] for node in nodes for t in node["inputs"]}.union(self._sources)
        read -= self._inputs.keys() | {t["name"] for node in nodes for t in node["outputs"]}
        keys = {self._mapping.get(name, name) for name in read}
        self._wanted = {key: weights[key] for key in weights if key in keys}
        self._known = {*weights, *self._mapping.values(), *self._tied}
        # Segments have their constants in their IRs, but for those that they write to.
        state = {name for partition in partitions for name in partition.state_names}
        kept = {self._mapping.get(name, name) for name in state.union(self._sources)}
        constants = ir.get("constants") or {}
        self._constants = {key: constants[key] for key in sorted(kept & constants.keys())}

    @property
    def plan(self) -> PartitionPlan:
        """The plan that runs."""
        return self._plan

    @property
    def backend(self) -> Backend:
        """Where NPU segments run."""
        return self._backend

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments in order, made ready."""
        return tuple(self._segments)

    @property
    def needs_weights(self) -> bool:
        """Whether ``load_weights`` has to be called before ``execute``."""
        return bool(self._wanted) and self._given is None

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(self._input_names)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order; a tensor returned twice is ``name`` and ``name.2``."""
        return tuple(self._output_names)

    def load_weights(
        self,
        source: str | os.PathLike[str] | Mapping[str, Any],
        *,
        strict: bool = True,
        progress: Progress | None = None,
    ) -> None:
        """Load the model's weights onto the device and for the CPU segments.

        ``source`` is a dict of arrays or torch tensors by state_dict key, a safetensors path, a
        directory of shards, or a PyTorch file (.pt, .pth, .bin). Weights that several segments
        read are on the device once. ``progress`` is called with (segments done, in all).

        Raises FileError, or WeightError for tensors that are missing, unknown (unless ``strict``
        is false) or of the wrong shape or dtype, before anything is loaded.
        """
        tensors = _open(source)
        names = set(tensors.names())
        places = {key: self._place(key, names) for key in self._wanted}
        wanted = {places[key]: meta for key, meta in self._wanted.items()}
        model = str(self._plan.original_ir.get("model_name", "model"))
        check_tensors(tensors, wanted, self._known, model, strict=strict)
        arrays = {key: tensors.get(place) for key, place in places.items()}
        for key in self._wanted:
            # A compiled segment knows a tied weight by the first of its keys.
            arrays.update(dict.fromkeys(self._tied.get(key, ()), arrays[key]))
        arrays.update(self._constant_arrays())
        made: Made = {}
        with self._lock:
            for index, segment in enumerate(self._segments):
                with naming(segment.partition):
                    segment.load_weights(arrays, made)
                if progress is not None:
                    progress(index + 1, len(self._segments))
            self._given = arrays

    def _place(self, key: str, names: set[str]) -> str:
        """The name that a weight has in a file, which may hold a tied one under another name."""
        return next((name for name in (key, *self._tied.get(key, ())) if name in names), key)

    def _constant_arrays(self) -> dict[str, Array]:
        return dict(read_constants(self._constants, self._plan.folder))

    def execute(self, inputs: Mapping[str, Any]) -> NamedOutputs[Array]:
        """Run the model once: output names -> new numpy arrays in the IR's dtypes.

        ``inputs`` are arrays (numpy, torch) or NPUBuffers by name; aliases as of ``Executor``.
        Raises ArgumentError before anything runs; errors of a segment name it and its node.
        """
        if self._given is None:
            if self.needs_weights:
                raise WeightError(
                    f"the weights are not loaded: the model has {len(self._wanted)}; call "
                    "load_weights first"
                )
            self.load_weights({})
        if self._whole is not None:
            return self._execute_whole(self._whole, inputs)
        given = self._arguments(inputs)
        values = Values(given, self._specs)
        with self._lock:
            for step, frees in self._steps:
                if isinstance(step, TransferOp):
                    if step.direction == "to_cpu":
                        for name in step.tensor_names:
                            values.on_host(name)
                else:
                    with naming(step.partition):
                        step.run(values)
                if frees:
                    values.free(frees)
        return self._results(given, values)

    __call__ = execute

    def _only_segment(self) -> NpuSegment | None:
        """The NPU segment that is the whole model, where one is: it needs no bookkeeping."""
        segment = self._segments[0] if len(self._steps) == 1 else None
        if not isinstance(segment, NpuSegment) or segment.stateful:
            return None
        takes, makes = segment.partition.input_names, segment.partition.output_names
        same = sorted(takes) == sorted(self._input_names) and list(makes) == self._sources
        return segment if same and self._sources == self._output_names else None

    def _execute_whole(self, segment: NpuSegment, inputs: Mapping[str, Any]) -> NamedOutputs[Array]:
        if not isinstance(inputs, Mapping):
            self._arguments(inputs)
        values = pick(inputs, self._input_names, self._input_aliases, "input")
        try:
            arrays = segment.run_whole(dict(zip(self._input_names, values, strict=True)))
        except ArgumentError:
            raise
        except NpuError:
            with naming(segment.partition):
                raise
        return NamedOutputs(
            dict(zip(self._output_names, arrays, strict=True)), self._output_aliases
        )

    def _arguments(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs by name, every one checked."""
        if not isinstance(inputs, Mapping):
            raise ArgumentError(
                f"inputs of type {type(inputs).__name__}: give a dict of "
                f"{listed(self._input_names)}"
            )
        found: dict[str, Any] = {}
        picked = pick(inputs, self._input_names, self._input_aliases, "input")
        for (name, (shape, dtype)), value in zip(self._inputs.items(), picked, strict=True):
            what = f"input {name!r}"
            array = value.to_numpy() if isinstance(value, NPUBuffer) else value
            if dtype in DTYPES or not hasattr(value, "shape"):
                array = as_array(array, what)
            if tuple(array.shape) != shape:
                raise ArgumentError(
                    f"{what}: shape {list(array.shape)} given, {list(shape)} expected"
                )
            if dtype in DTYPES:
                check_cast(array, numpy_dtype(dtype), what)
            found[name] = array
        return found

    def _results(self, given: Mapping[str, Any], values: Values) -> NamedOutputs[Array]:
        found: dict[str, Array] = {}
        fetched_before: set[str] = set()
        for name, source in zip(self._output_names, self._sources, strict=True):
            if source in self._made:
                array = to_array(values.on_host(source), repr(source))
                # What PyTorch made may be a view of an input, of weights, of another result.
                if source not in self._specs or source in fetched_before:
                    array = array.copy()
                fetched_before.add(source)
            elif source in self._inputs:
                dtype = self._inputs[source][1]
                array = as_array(given[source], repr(source))
                array = fetch(array, numpy_dtype(dtype) if dtype in DTYPES else array.dtype)
            else:
                array = (self._given or {})[self._mapping.get(source, source)].copy()
            found[name] = array
        return NamedOutputs(found, self._output_aliases)

    def __repr__(self) -> str:
        model = self._plan.original_ir.get("model_name", "model")
        return f"DAGExecutor({model!r}, {self._backend.name}: {self._plan})"


def _meta(tensor: Mapping[str, Any]) -> tuple[tuple[int, ...], str]:
    return tuple(tensor["shape"]), plain_dtype(tensor["dtype"])


def _unique(names: list[str]) -> list[str]:
    """``name``, ``name.2``, ... for what is listed more than once, as programs name outputs."""
    taken = set(names)
    found: list[str] = []
    for name in names:
        unique, count = name, 1
        while unique in found or (count > 1 and unique in taken):
            count += 1
            unique = f"{name}.{count}"
        found.append(unique)
    return found


def _open(source: str | os.PathLike[str] | Mapping[str, Any]) -> TensorSource:
    """The tensors of any source of weights, PyTorch's own files included."""
    if not isinstance(source, (str, os.PathLike)) or Path(source).suffix not in _TORCH_SUFFIXES:
        return open_tensors(source)
    torch_ir = require_torch_ir()
    try:
        tensors = ArraySource(torch_ir.load_weights_pt(source))
    except torch_ir.TorchIRError as error:
        raise FileError(str(error)) from error
    tensors.label = str(source)
    return tensors
