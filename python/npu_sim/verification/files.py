"""What ``npu-sim verify`` reads: weights of a model, and inputs where none are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from npu_compiler.ir_reader import load_ir_file
from npu_runtime.tensor_files import open_tensors
from npu_sim.errors import UsageError
from npu_sim.extras import require

_TORCH_SUFFIXES = frozenset({".pt", ".pth", ".bin"})


def read_weights(ir: Path, weights: Path | None) -> dict[str, Any]:
    """The state_dict of a file. UsageError where the model has weights and none are given."""
    data, _ = load_ir_file(ir)
    constants = data.get("constants") or {}
    wanted = [w["name"] for w in data.get("weights", ()) if w["name"] not in constants]
    if weights is None:
        if wanted:
            raise UsageError(
                f"{ir} has {len(wanted)} weights: give a safetensors file, a folder of shards or a "
                ".pt file with --weights"
            )
        return {}
    require("torch", "verifying a model")
    from torch_ir import load_weights_pt

    if weights.suffix in _TORCH_SUFFIXES:
        return dict(load_weights_pt(weights))
    tensors = open_tensors(weights)
    return {name: tensors.get(name) for name in tensors.names()}


def drawn_inputs(ir: Path, seed: int = 0) -> dict[str, Any]:
    """An array for each input: normal floats, zeros for the rest (valid as an index and a mask)."""
    draw = np.random.default_rng(seed)
    data, _ = load_ir_file(ir)
    found: dict[str, Any] = {}
    for tensor in data["graph_inputs"]:
        shape, dtype = tensor["shape"], str(tensor["dtype"]).removeprefix("torch.")
        if "float" in dtype:
            found[tensor["name"]] = draw.standard_normal(shape, np.float32)
        else:
            found[tensor["name"]] = np.zeros(shape, dtype)
    return found
