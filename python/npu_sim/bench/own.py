"""npu_sim itself as a contender."""

from __future__ import annotations

from typing import Any

import numpy as np

from npu_runtime import Device
from npu_sim.bench.contenders import Contender, Workload
from npu_sim.pipeline import Ready, compile_model


def contender(work: Workload, dtype: str, device: Device) -> Contender:
    """The workload compiled for ``dtype`` on a device."""
    program = compile_model(work.model, work.name, work.images.shape, dtype)
    ready = Ready.of(program, work.model.state_dict(), device)
    return ready_contender(ready, {"input": work.images}, dtype)


def ready_contender(ready: Ready, inputs: dict[str, Any], precision: str) -> Contender:
    """A program on fixed arrays; a run includes converting and uploading them."""
    device = ready.executor.device
    last: list[Any] = [None]

    def run() -> None:
        last[0] = ready.executor.run(inputs, ready.weights)

    def logits() -> Any:
        return next(iter(last[0].values())).to_numpy(dtype=np.float32)

    notes = {"dispatches": len(ready.program.kernel_calls)}
    return Contender(f"npu_sim ({device.kind})", precision, run, logits, notes)
