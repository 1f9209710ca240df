"""Peak memory of executing an IR beside that of the model in eager mode.

    python benchmarks/torch_ir/memory.py [--json] [--only NAME]

Counts what PyTorch's CPU allocator hands out and takes back during one run, operators' own
temporary memory included, weights and inputs excluded. The counts are exact: they do not depend on
the machine's load.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
from collections.abc import Callable
from typing import Any

# The profiler announces its start and stop on stderr otherwise; it looks at this when it is loaded.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import torch_ir

__all__ = ["CASES", "measure", "peak_bytes"]


def peak_bytes(run: Callable[[], Any]) -> tuple[int, int]:
    """Return the most bytes allocated at once during ``run()``, and those still allocated after it,
    its result included, as far as they were allocated by it.
    """
    run()  # What is made once, at the first call, is not counted.
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = run()
    events = recorded.profiler.kineto_results.events()
    changes = [event for event in events if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    del result
    return peak, now


class Attention(nn.Module):
    """Single-head attention with all its scores in memory, and a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.query(x) @ self.key(x).transpose(-1, -2)
        weights = torch.softmax(scores * x.shape[-1] ** -0.5, -1)
        return x + weights @ self.value(x)


def _resnet(name: str) -> tuple[nn.Module, torch.Tensor]:
    import npu_sim.models

    return getattr(npu_sim.models, name)(), torch.randn(8, 3, 224, 224)


def _attention() -> tuple[nn.Module, torch.Tensor]:
    return nn.Sequential(*(Attention(64) for _ in range(4))), torch.randn(1, 2048, 64)


def _encoder() -> tuple[nn.Module, torch.Tensor]:
    layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True)
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), torch.randn(1, 2048, 64)


def _decoder() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        use_cache=False,
    )
    # With padding, so that a mask is made in eager mode too; a traced model always makes one.
    ids, mask = torch.zeros(1, 2048, dtype=torch.int64), torch.ones(1, 2048, dtype=torch.int64)
    mask[:, :100] = 0
    return Qwen2ForCausalLM(config), {"input_ids": ids, "attention_mask": mask}


def _mlp() -> tuple[nn.Module, torch.Tensor]:
    layers = [layer for _ in range(6) for layer in (nn.Linear(512, 512), nn.GELU())]
    return nn.Sequential(*layers), torch.randn(4096, 512)


CASES: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "ResNet-18, batch 8": lambda: _resnet("resnet18"),
    "ResNet-50, batch 8": lambda: _resnet("resnet50"),
    "attention, 2,048 tokens": _attention,
    "TransformerEncoder, 2,048 tokens": _encoder,
    "Qwen2 (tiny), 2,048 tokens": _decoder,
    "MLP, 4,096 rows": _mlp,
}


def measure(name: str) -> dict[str, Any]:
    """Peak bytes of eager mode and of the IR, and bytes left after a run, for one case."""
    torch.manual_seed(0)
    model, inputs = CASES[name]()
    model.eval()
    executor = torch_ir.IRExecutor(torch_ir.extract_ir(model, inputs), model.state_dict())

    def eager() -> Any:
        with torch.no_grad():
            return model(**inputs) if isinstance(inputs, dict) else model(inputs)

    (eager_peak, eager_left), (ir_peak, ir_left) = (
        peak_bytes(run) for run in (eager, lambda: executor.execute(inputs))
    )
    return {
        "case": name,
        "eager_peak": eager_peak,
        "ir_peak": ir_peak,
        "eager_left": eager_left,
        "ir_left": ir_left,
        "ir_over_eager": ir_peak / eager_peak - 1,
    }


def main() -> None:
    """Measure the chosen cases and print a line, or a JSON object, for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--only", choices=CASES, help="one case")
    options = parser.parse_args()
    for name in [options.only] if options.only else CASES:
        result = measure(name)
        eager, ir = (result[key] / 2**20 for key in ("eager_peak", "ir_peak"))
        line = f"{name}: eager {eager:.2f} MiB, IR {ir:.2f} MiB ({result['ir_over_eager']:+.1%})"
        print(json.dumps(result) if options.json else line, flush=True)


if __name__ == "__main__":
    main()
