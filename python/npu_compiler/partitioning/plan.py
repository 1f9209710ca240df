"""PartitionPlan: the segments of a model, what crosses between them, and each segment as an IR of
its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Literal

from npu_compiler.constraints import Violation
from npu_compiler.dtypes import DTYPES, FOREIGN
from npu_compiler.precision import Precision

Target = Literal["npu", "cpu"]


@dataclass(frozen=True, slots=True)
class Partition:
    """A segment: IR nodes that run one after another on one side.

    ``nodes`` are the IR's (in its order), ``input_names`` the tensors made before it or given by
    the caller, ``output_names`` those that later segments or the caller read. ``state_names`` are
    weights that its nodes write to; their content outlives the run.
    """

    partition_id: int
    target: Target
    nodes: list[dict[str, Any]]
    input_names: list[str]
    output_names: list[str]
    state_names: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """For messages: number, side, first and last node."""
        first, last = self.nodes[0]["name"], self.nodes[-1]["name"]
        span = repr(first) if len(self.nodes) == 1 else f"{first!r} to {last!r}"
        return f"segment {self.partition_id} ({self.target}, {span})"


@dataclass(frozen=True, slots=True)
class TransferOp:
    """Tensors that the next segment reads and a segment of the other side has made."""

    tensor_names: list[str]
    direction: Literal["to_cpu", "to_npu"]
    size_bytes: int = 0


@dataclass(frozen=True)
class PartitionPlan:
    """What runs where, in order.

    ``fallbacks`` says for every node on the CPU why it is there; ``unused`` names the nodes that no
    segment runs, since nothing reads what they compute. ``folder`` is where the constants lie that
    are files of their own. ``cost`` (seconds) is the cost model's estimate of a run.
    """

    steps: list[Partition | TransferOp]
    original_ir: Mapping[str, Any]
    fallbacks: dict[str, Violation] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    precision: Precision = field(default_factory=lambda: Precision("float32", "float16"))
    folder: Path | None = None
    cost: float = 0.0

    @property
    def partitions(self) -> list[Partition]:
        """The segments, in order."""
        return [step for step in self.steps if isinstance(step, Partition)]

    @property
    def transfers(self) -> list[TransferOp]:
        """The transfers, in order."""
        return [step for step in self.steps if isinstance(step, TransferOp)]

    @property
    def transferred_bytes(self) -> int:
        """Bytes that cross between the sides in a run, in the dtypes of the IR; what the caller
        gives and gets is not counted."""
        return sum(transfer.size_bytes for transfer in self.transfers)

    @cached_property
    def tensors(self) -> dict[str, dict[str, Any]]:
        """``{name, shape, dtype}`` of every graph input, node output and weight placeholder."""
        ir = self.original_ir
        constants = ir.get("constants") or {}
        by_key = {key: {"name": key, **c} for key, c in constants.items() if "shape" in c}
        by_key |= {w["name"]: w for w in ir.get("weights", ())}
        found = {t["name"]: t for t in ir["graph_inputs"]}
        for placeholder, key in {**{k: k for k in by_key}, **_mapping(ir)}.items():
            if key in by_key:
                found.setdefault(placeholder, by_key[key])
        found.update((t["name"], t) for node in ir["nodes"] for t in node["outputs"])
        return {
            name: {"name": name, "shape": list(t["shape"]), "dtype": plain_dtype(t["dtype"])}
            for name, t in found.items()
        }

    def sub_ir(self, partition: Partition) -> dict[str, Any]:
        """A segment as an IR that can be compiled or executed alone.

        On the NPU, the segment's state are inputs, and outputs behind ``output_names``; on the CPU
        it stays a weight.
        """
        ir = self.original_ir
        as_inputs = partition.state_names if partition.target == "npu" else ()
        outside = {*partition.input_names, *as_inputs}
        made = {t["name"] for node in partition.nodes for t in node["outputs"]}
        nodes = [_inside(node, outside, made) for node in partition.nodes]
        read = {t["name"] for node in nodes for t in node["inputs"]} - outside - made
        names = {name: key for name, key in _mapping(ir).items() if name in read}
        keys = {*names.values(), *read}
        tied = {k: first for k, first in ir.get("tied_weights", {}).items() if k in keys}
        keys.update(tied.values())
        constants = ir.get("constants") or {}
        return {
            **{k: ir[k] for k in ("format_version", "pytorch_version") if k in ir},
            "model_name": f"{ir.get('model_name', 'model')}[{partition.partition_id}]",
            "graph_inputs": [self.tensors[n] for n in (*partition.input_names, *as_inputs)],
            "graph_outputs": [self.tensors[n] for n in (*partition.output_names, *as_inputs)],
            "weights": [w for w in ir.get("weights", ()) if w["name"] in keys],
            "weight_name_mapping": names,
            "nodes": nodes,
            "constants": {k: constants[k] for k in sorted(keys & constants.keys())},
            "tied_weights": tied,
        }

    def __str__(self) -> str:
        counts = Counter(p.target for p in self.partitions)
        nodes = Counter({p.target: 0 for p in self.partitions})
        for partition in self.partitions:
            nodes[partition.target] += len(partition.nodes)
        sides = ", ".join(
            f"{nodes[target]} nodes in {counts[target]} {target.upper()} "
            f"segment{'s' if counts[target] != 1 else ''}"
            for target in ("npu", "cpu")
            if counts[target]
        )
        return f"{sides or 'no nodes'}; {self.transferred_bytes:,} bytes transferred"


def plain_dtype(name: str) -> str:
    """A dtype's name without ``torch.``."""
    return name.removeprefix("torch.")


def tensor_bytes(shape: tuple[int, ...] | list[int], dtype: str) -> int:
    """Bytes of a dense tensor."""
    return prod(shape) * (DTYPES[dtype].size if dtype in DTYPES else FOREIGN[dtype])


def _mapping(ir: Mapping[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = ir.get("weight_name_mapping", {})
    return found


def _inside(node: dict[str, Any], outside: set[str], made: set[str]) -> dict[str, Any]:
    """``node`` for a graph in which ``outside`` are graph inputs: those are their own producers."""
    if all(t["name"] in made for t in node["inputs"]):
        return node
    inputs = [
        {**t, "producer_node": t["name"], "producer_output_idx": 0} if t["name"] in outside else t
        for t in node["inputs"]
    ]
    return {**node, "inputs": inputs}
