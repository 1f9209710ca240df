"""The code blocks of the seed documents that partition a model run as they are written.

Where there is no Metal, the CPU backend takes its place.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import npu_runtime
from npu_compiler import Partition, TransferOp, partition
from npu_runtime.convert import as_array
from tests.npu_sim.test_seed_documents import blocks, run
from torch_ir import extract_ir

VOCABULARY, WIDTH, LENGTH, CACHE = 97, 16, 5, 8


class Decoder(nn.Module):
    """One layer of a decoder with a static cache, called as the usage guide calls Qwen."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(CACHE, WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        cache_position: torch.Tensor,
    ) -> torch.Tensor:
        """(1, T) ids, (1, 1, T, CACHE) mask, (1, T) and (T,) positions -> (1, T, VOCABULARY)."""
        x = self.embed(input_ids) + self.positions(position_ids)
        q, k, v = self.qkv(x).chunk(3, -1)
        keys = torch.zeros(1, CACHE, WIDTH, dtype=x.dtype).index_copy(1, cache_position, k)
        values = torch.zeros(1, CACHE, WIDTH, dtype=x.dtype).index_copy(1, cache_position, v)
        scores = q @ keys.transpose(1, 2) / math.sqrt(WIDTH) + attention_mask[:, 0]
        return self.head(x + scores.softmax(-1) @ values)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MetalBackend on every machine."""
    if "metal" not in npu_runtime.available_devices():
        monkeypatch.setattr(npu_runtime, "MetalBackend", npu_runtime.CpuBackend)


def test_overview(backend: None) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(8, 16)
            self.second = nn.Linear(16, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(torch.fft.fft(self.first(x)).real)

    torch.manual_seed(0)
    model, x = Net().eval(), torch.randn(3, 8)
    (block,) = blocks("overview.md", "DAGExecutor")
    names = {
        "ir_dict": extract_ir(model, (x,)).to_dict(),
        "weights_dict": model.state_dict(),
        "input_array": x.numpy(),
    }
    run([block], names)
    (result,) = names["result"].values()
    with torch.no_grad():
        expected = model(x).numpy()
    assert result.dtype == np.float32
    assert np.abs(result - expected).max() < 4e-3 * np.abs(expected).max()
    # As concepts.md says: consecutive nodes, and a transfer at every boundary.
    plan = names["plan"]
    assert [type(step) for step in plan.steps] == [Partition, TransferOp] * 2 + [Partition]
    assert plan.original_ir["nodes"] == names["ir_dict"]["nodes"]


def test_usage_guide(backend: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = Decoder().to(torch.bfloat16).eval()
    blocked = torch.full((LENGTH, CACHE), float("-inf")).triu(1)
    inputs = {
        "input_ids": torch.randint(0, VOCABULARY, (1, LENGTH)),
        "attention_mask": blocked[None, None].to(torch.bfloat16),
        "position_ids": torch.arange(LENGTH)[None],
        "cache_position": torch.arange(LENGTH),
    }
    extract_ir(model, tuple(inputs.values())).save("qwen_prefill_ir.json")
    (block,) = blocks("usage-guide.md", "DAGExecutor")
    names: dict[str, Any] = {
        "weights_dict": model.state_dict(),
        "input_ids_np": inputs["input_ids"].numpy(),
        "causal_mask_np": as_array(inputs["attention_mask"], "mask"),
        "position_ids_np": inputs["position_ids"].numpy(),
        "cache_position_np": inputs["cache_position"].numpy(),
    }
    run([block], names)
    with torch.no_grad():
        expected = model(**inputs).float().numpy()
    logits = names["logits"]
    assert logits.dtype.name == "bfloat16" and logits.shape == expected.shape
    error = np.abs(logits.astype(np.float32) - expected).max()
    assert error < 4e-2 * np.abs(expected).max()
    best = expected[0, -1]
    assert best[int(names["next_token"])] >= best.max() - 4e-2 * np.abs(best).max()


def test_partition_of_a_dict_is_what_the_seeds_describe() -> None:
    seen = []
    ir = extract_ir(
        nn.Sequential(nn.Linear(2, 2), nn.ReLU()).eval(), (torch.randn(1, 2),)
    ).to_dict()
    partition(ir, lambda op_type, attrs: seen.append((op_type, attrs)) or True)
    assert [op_type for op_type, _ in seen] == ["aten.linear.default", "aten.relu.default"]
