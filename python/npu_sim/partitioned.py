"""A model's IR, its segments and its weights, opened together, as ``npu-sim run`` needs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npu_compiler import partition
from npu_compiler.partitioner import Mode
from npu_runtime import DAGExecutor, Device
from npu_sim.errors import UsageError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PartitionedSession:
    """Everything that a run needs but its inputs."""

    device: Device
    executor: DAGExecutor

    @classmethod
    def open(
        cls,
        ir: Path,
        weights: Path | None,
        device: str | None,
        mode: Mode,
        *,
        on_segment: Progress | None = None,
        on_weights: Progress | None = None,
    ) -> PartitionedSession:
        """Partition the model, compile its segments and load the weights."""
        plan = partition(ir, mode=mode)
        target = Device(device)
        executor = DAGExecutor(plan, target, progress=on_segment)
        if weights is not None:
            executor.load_weights(weights, progress=on_weights)
        elif executor.needs_weights:
            raise UsageError(
                f"{ir} needs weights: give a safetensors file, a folder of shards or a .pt file "
                "with --weights"
            )
        return cls(target, executor)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """One run: arrays in, arrays out."""
        return dict(self.executor.execute(inputs))
