"""``torch.compile(model, backend="npu_sim")``: graphs that Dynamo captures run as npu_sim programs.

A captured graph becomes an IR for the shapes of each call, is partitioned and run by a DAGExecutor:
what the NPU cannot run is run by PyTorch, and a log line says so. Inference only.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.utils import _pytree as pytree

import npu_compiler
from npu_compiler.partitioning.plan import PartitionPlan
from npu_runtime import DAGExecutor, Device
from npu_runtime.cpu_fallback import to_tensor
from npu_sim.errors import UsageError
from torch_ir import IR, extract_ir

__all__ = ["NAME", "npu_sim", "register"]

NAME = "npu_sim"
OPTIONS = ("device", "compute_dtype", "mode")
_LOG = logging.getLogger("npu_sim")

Compiled = Callable[..., list[Any]]
# Dynamo leaves alone what runs inside.
_untraced = cast(Any, torch.compiler.disable)


def npu_sim(
    graph: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Compiled:
    """Compile a graph captured by Dynamo; the backend that ``torch.compile`` calls.

    Args:
        options: ``device`` (a kind or a Device; the fastest there is by default), ``compute_dtype``
            (as of ``npu_compiler.compile``), ``mode`` of ``npu_compiler.partition`` ("cost" by
            default).

    Raises UsageError (in torch.compile's BackendCompilerFailed) for an unknown option and where
    gradients are asked for. A graph is compiled by its first call with given shapes.
    """
    if mode not in (None, "default"):
        raise UsageError(f"mode={mode!r}: backend npu_sim has no modes; leave it out")
    chosen = dict(options or {})
    if unknown := sorted(chosen.keys() - set(OPTIONS)):
        raise UsageError(f"options {unknown}: backend npu_sim knows {', '.join(OPTIONS)}")
    _check_inference(example_inputs)
    run: Compiled = _untraced(_Graph(graph, example_inputs, chosen).__call__)
    return run


def register() -> None:
    """Make ``backend="npu_sim"`` known where the package runs without being installed (installed,
    its entry point does)."""
    from torch._dynamo.backends.registry import list_backends, register_backend

    if NAME not in list_backends(exclude_tags=()):
        register_backend(compiler_fn=cast(Any, npu_sim), name=NAME)


def _check_inference(inputs: Sequence[Any]) -> None:
    wanted = any(isinstance(value, torch.Tensor) and value.requires_grad for value in inputs)
    if wanted and torch.is_grad_enabled():
        raise UsageError(
            "backend npu_sim runs inference only, but the model or its inputs require gradients: "
            "call it under torch.no_grad() or torch.inference_mode(), or call "
            "model.requires_grad_(False) first"
        )


def _is_weight(value: Any) -> bool:
    """Whether Dynamo passes a tensor of a module, which is the same in every call."""
    return isinstance(value, torch.Tensor) and (
        isinstance(value, nn.Parameter) or hasattr(value, "_dynamo_static_input_type")
    )


class _Graph:
    """A captured graph and its executables, one for each combination of shapes."""

    def __init__(
        self, graph: torch.fx.GraphModule, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> None:
        self._graph = graph
        self._options = options
        self._device = _device(options.get("device"))
        self._weights = tuple(i for i, value in enumerate(inputs) if _is_weight(value))
        self._executables: dict[tuple[Any, ...], _Executable] = {}
        self._lock = threading.Lock()

    def __call__(self, *args: Any) -> list[Any]:
        """Call the graph."""
        key = tuple(_key(value) for value in args)
        with torch.no_grad(), self._lock:
            executable = self._executables.get(key)
            if executable is None:
                executable = _Executable(
                    self._graph, args, self._weights, self._device, self._options
                )
                self._executables[key] = executable
            return executable.run(args)


class _Executable:
    """A graph for given shapes, on the device."""

    def __init__(
        self,
        graph: torch.fx.GraphModule,
        args: tuple[Any, ...],
        weights: Sequence[int],
        device: Device,
        options: Mapping[str, Any],
    ) -> None:
        ir = extract_ir(
            _Bound(graph, args, weights, ()).eval(), _inputs_of(args, weights), model_name=NAME
        )
        # What the graph writes to in place, it is given and gives back.
        self._written = _written(ir, args, weights)
        self._weights = [i for i in weights if i not in self._written]
        if self._written:
            bound = _Bound(graph, args, self._weights, self._written).eval()
            ir = extract_ir(bound, _inputs_of(args, self._weights), model_name=NAME)
        self._leaves: list[Mapping[str, Any]] = (ir.signature or {}).get("outputs", [])
        plan = npu_compiler.partition(
            ir, mode=options.get("mode", "cost"), compute_dtype=options.get("compute_dtype")
        )
        _report(plan)
        self._executor = DAGExecutor(plan, device)
        self._output_dtypes = [meta.dtype for meta in ir.graph_outputs]
        # Names of the tensors among the inputs, in order.
        self._names = self._executor.input_names
        self._versions: list[tuple[int, int]] = []

    def run(self, args: tuple[Any, ...]) -> list[Any]:
        """Results of the graph, in a list as Dynamo wants it."""
        self._load(args)
        tensors = [v for v in _inputs_of(args, self._weights) if isinstance(v, torch.Tensor)]
        # A tensor that the graph is given twice is one input each time.
        found = self._executor.execute(dict(zip(self._names, tensors, strict=True)))
        results = [
            to_tensor(value, dtype)
            for value, dtype in zip(found.values(), self._output_dtypes, strict=True)
        ]
        values: list[Any] = list(results)
        if self._leaves:
            given = iter(results)
            values = [next(given) if "name" in leaf else leaf["value"] for leaf in self._leaves]
        count = len(values) - len(self._written)
        for index, value in zip(self._written, values[count:], strict=True):
            args[index].copy_(value)
        return values[:count]

    def _load(self, args: tuple[Any, ...]) -> None:
        """Load the weights, again where they were changed or replaced since the last time."""
        weights = [args[index] for index in self._weights]
        versions = [(id(w), w._version if not w.is_inference() else 0) for w in weights]
        if versions != self._versions or not self._versions:
            named = {_weight_name(i): args[i].detach() for i in self._weights}
            self._executor.load_weights(named, strict=False)
            self._versions = versions


class _Bound(nn.Module):
    """The graph with its weights as buffers; ``written`` arguments are copied and returned."""

    def __init__(
        self,
        graph: torch.fx.GraphModule,
        args: tuple[Any, ...],
        weights: Sequence[int],
        written: Sequence[int],
    ) -> None:
        super().__init__()
        self._graph = graph
        self._count = len(args)
        self._weights = frozenset(weights)
        self._written = tuple(written)
        for index in weights:
            self.register_buffer(_weight_name(index), args[index].detach())

    def forward(self, *inputs: Any) -> Any:
        given = iter(inputs)
        args = [
            getattr(self, _weight_name(i)) if i in self._weights else next(given)
            for i in range(self._count)
        ]
        for index in self._written:
            args[index] = args[index].clone()
        results = self._graph(*args)
        return (*pytree.tree_leaves(results), *(args[index] for index in self._written))


def _weight_name(index: int) -> str:
    return f"w{index}"


def _inputs_of(args: tuple[Any, ...], weights: Sequence[int]) -> tuple[Any, ...]:
    known = frozenset(weights)
    return tuple(value for i, value in enumerate(args) if i not in known)


def _written(ir: IR, args: tuple[Any, ...], weights: Sequence[int]) -> tuple[int, ...]:
    """Arguments that the graph writes to in place."""
    names = {name for node in ir.nodes for name in node.attrs.get("_mutates", ())}
    tensors = [
        i for i, v in enumerate(args) if i not in set(weights) and isinstance(v, torch.Tensor)
    ]
    inputs = dict(zip([meta.name for meta in ir.graph_inputs], tensors, strict=True))
    buffers = {_weight_name(i): i for i in weights}
    found = {inputs[name] for name in names if name in inputs}
    found |= {
        buffers[key] for name in names if (key := ir.weight_name_mapping.get(name)) in buffers
    }
    return tuple(sorted(found))


def _key(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, torch.Tensor):
        return (type(value), value)
    if value.device.type != "cpu":
        raise UsageError(
            f"backend npu_sim takes tensors in host memory, found one on {value.device}: move the "
            "model and its inputs with .cpu(); options={'device': ...} chooses where it runs"
        )
    return (value.dtype, tuple(value.shape))


def _device(chosen: Any) -> Device:
    return chosen if isinstance(chosen, Device) else Device(chosen)


def _report(plan: PartitionPlan) -> None:
    """One log line about what the NPU does not run."""
    if not plan.fallbacks:
        return
    # What cannot run on the NPU comes before what only does not pay there.
    first = sorted(plan.fallbacks.values(), key=lambda violation: violation.by_choice)
    shown = "; ".join(str(violation) for violation in first[:3])
    more = f"; and {len(first) - 3} more" if len(first) > 3 else ""
    _LOG.warning("torch.compile backend npu_sim: %s: %s%s", plan, shown, more)
