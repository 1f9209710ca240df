"""What a DAGExecutor costs beside an Executor where the whole model is one NPU segment.

    python benchmarks/partition/overhead.py [--json] [--rounds N]

Both take the same numpy arrays and give numpy arrays in the model's dtype; they run in turns, with
the weights loaded. Besides ResNet-18, a model that does next to nothing shows the difference in
microseconds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from npu_compiler import partition
from npu_runtime import DAGExecutor, Device, Executor, load_weights
from npu_sim.bench.measure import interleave
from npu_sim.models import random_images, resnet18, trained_like
from torch_ir import extract_ir


def _tiny() -> tuple[nn.Module, torch.Tensor]:
    return nn.Sequential(nn.Linear(16, 16), nn.ReLU()).eval(), torch.randn(1, 16)


def _resnet18() -> tuple[nn.Module, torch.Tensor]:
    return trained_like(resnet18()), random_images(1)


MODELS: dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {
    "Linear(16, 16) and ReLU": _tiny,
    "ResNet-18": _resnet18,
}


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Medians and interquartile ranges in microseconds."""
    model, x = MODELS[name]()
    plan = partition(extract_ir(model, (x,)))
    device = Device("cpu")
    dag = DAGExecutor(plan, device)
    dag.load_weights(model.state_dict())
    (segment,) = dag.segments
    program = segment.program
    executor = Executor(program, device)
    weights = load_weights(
        {key: value.numpy() for key, value in model.state_dict().items()},
        program,
        device,
        strict=False,
    )
    spec = program.output_specs[0]
    inputs = {program.input_specs[0].name: x.numpy()}

    def alone() -> np.ndarray:
        return executor.run(inputs, weights)[spec.name].to_numpy(spec=spec, dtype=np.float32)

    def in_plan() -> np.ndarray:
        return next(iter(dag.execute(inputs).values()))

    if not np.array_equal(alone(), in_plan()):
        raise SystemExit(f"{name}: the results differ")
    times = interleave({"Executor": alone, "DAGExecutor": in_plan}, rounds=rounds)
    first, second = times["Executor"], times["DAGExecutor"]
    return {
        "model": name,
        "executor_us": first.median * 1e3,
        "executor_iqr_us": first.spread * 1e3,
        "dag_us": second.median * 1e3,
        "dag_iqr_us": second.spread * 1e3,
        "overhead": second.median / first.median - 1,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="one JSON list instead of the table")
    parser.add_argument("--rounds", type=int, default=24, help="turns of each (24)")
    options = parser.parse_args()
    results = [measure(name, options.rounds) for name in MODELS]
    if options.json:
        print(json.dumps(results, indent=1))
        return
    print("| model | Executor, us | DAGExecutor, us | difference |\n|---|---|---|---|")
    for r in results:
        print(
            f"| {r['model']} | {r['executor_us']:.1f} ({r['executor_iqr_us']:.1f}) "
            f"| {r['dag_us']:.1f} ({r['dag_iqr_us']:.1f}) "
            f"| {r['dag_us'] - r['executor_us']:+.1f} us, {r['overhead']:+.1%} |"
        )


if __name__ == "__main__":
    main()
