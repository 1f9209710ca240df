"""Random graphs under random partitions: the result never depends on what runs where."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import pytest
import torch

from npu_compiler import CostModel, is_op_supported, partition
from npu_runtime import CpuBackend, DAGExecutor
from tests.npu_runtime.random_graphs import random_ir
from torch_ir import IRExecutor, dict_to_ir

# Graphs of a run; NPU_SIM_RANDOM_GRAPHS=5000 for a night.
GRAPHS = int(os.environ.get("NPU_SIM_RANDOM_GRAPHS", "60"))
STATE = {"layer.weight": (6, 6), "total": (4, 6)}


def draw_arrays(seed: int) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Weights, and inputs for two runs."""
    draw = np.random.default_rng(seed)
    weights = {k: draw.uniform(-0.5, 0.5, s).astype(np.float32) for k, s in STATE.items()}
    inputs = [
        {k: draw.uniform(-1, 1, (4, 6)).astype(np.float32) for k in ("x", "y")} for _ in range(2)
    ]
    return weights, inputs


def expected_of(
    ir: dict[str, Any], weights: dict[str, np.ndarray], inputs: list[dict[str, np.ndarray]]
) -> list[list[np.ndarray]]:
    """What PyTorch computes in two runs."""
    executor = IRExecutor(dict_to_ir(ir), {k: torch.from_numpy(v) for k, v in weights.items()})
    return [
        [
            t.numpy().copy()
            for t in executor.execute({k: torch.from_numpy(v) for k, v in run.items()})
        ]
        for run in inputs
    ]


def check(seed: int) -> None:
    """One graph under four partitions."""
    drawn = random_ir(seed, 5 + seed % 30)
    weights, inputs = draw_arrays(seed)
    expected = expected_of(drawn.ir, weights, inputs)
    draw = random.Random(seed)
    for trial in range(4):
        cpu = set(draw.sample(drawn.op_types, draw.randint(0, len(drawn.op_types))))
        model = CostModel(transfer_seconds=draw.choice([0.0, 1e-5]), cpu_node_seconds=1e-3)
        plan = partition(
            drawn.ir,
            lambda op_type, attrs, cpu=cpu: op_type not in cpu and is_op_supported(op_type, attrs),
            mode=("consecutive", "cost")[trial % 2],
            compute_dtype="float32",
            cost_model=model,
        )
        executor = DAGExecutor(plan, CpuBackend())
        executor.load_weights(weights, strict=False)
        for run, wanted in zip(inputs, expected, strict=True):
            before = {k: v.copy() for k, v in run.items()}
            results = executor.execute(run)
            for name, one, other in zip(results, results.values(), wanted, strict=True):
                np.testing.assert_allclose(
                    one, other, 1e-4, 1e-5, err_msg=f"{seed}: {name}\n{plan}"
                )
            assert all(np.array_equal(run[k], before[k]) for k in run)


@pytest.mark.parametrize("part", range(4))
def test_random_partitions_of_random_graphs(part: int) -> None:
    for seed in range(part, GRAPHS, 4):
        check(seed)
