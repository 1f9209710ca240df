"""The experts of one mixture layer, with their weights where they are and with copies of them.

    python benchmarks/compiler/experts.py [--tokens 1] [--experts 128] [--choices 8] [--width 2048]
        [--inner 768] [--rounds N] [--int8] [--json]

The defaults are a layer of Qwen3-30B-A3B and one token, in bfloat16. Copies are what the same layer
costs written in a way that the compiler does not know (`matmul` instead of `bmm`): a gather, then a
product. PyTorch runs transformers' own way. All take turns.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import npu_compiler
from npu_runtime import Device, Executor, load_weights
from npu_sim.bench.measure import interleave
from torch_ir import extract_ir


class Experts(nn.Module):
    """Gated experts as transformers' ``batched_mm`` computes them."""

    def __init__(self, experts: int, width: int, inner: int) -> None:
        super().__init__()
        self.up = nn.Parameter(self._weights(experts, 2 * inner, width), requires_grad=False)
        self.down = nn.Parameter(self._weights(experts, width, inner), requires_grad=False)

    @staticmethod
    def _weights(experts: int, n: int, k: int) -> torch.Tensor:
        return torch.randn(experts, n, k, dtype=torch.bfloat16) / k**0.5

    def product(self, w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.bmm(w, x.unsqueeze(-1)).squeeze(-1)

    def forward(self, x: torch.Tensor, expert: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        tokens, choices = expert.shape
        chosen = expert.reshape(-1)
        gate, up = self.product(self.up[chosen], x.repeat_interleave(choices, dim=0)).chunk(2, -1)
        y = self.product(self.down[chosen], F.silu(gate) * up)
        y = y * weight.reshape(-1).unsqueeze(-1)
        return y.view(tokens, choices, -1).sum(dim=1)


class Copied(Experts):
    """The same in other words."""

    def product(self, w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.matmul(w, x.unsqueeze(-1)).squeeze(-1)


def runner(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], weight_dtype: str | None = None
) -> tuple[Callable[[], object], int]:
    """What runs the compiled module, and the bytes that its program states."""
    program = npu_compiler.compile(extract_ir(module, inputs), weight_dtype=weight_dtype)
    device = Device("cpu")
    executor = Executor(program, device)
    weights = load_weights(module.state_dict(), program, device, strict=False)
    given = dict(zip((spec.name for spec in program.input_specs), inputs, strict=True))
    moved = sum(call.bytes for call in program.kernel_calls)
    return lambda: executor.run(given, weights), moved


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Milliseconds (median, interquartile range) and GB/s of each way."""
    torch.manual_seed(0)
    sizes = (options.experts, options.width, options.inner)
    module = Experts(*sizes).eval()
    copied = Copied(*sizes).eval()
    copied.load_state_dict(module.state_dict(), assign=True)
    inputs = (
        torch.randn(options.tokens, options.width).bfloat16(),
        torch.stack(
            [torch.randperm(options.experts)[: options.choices] for _ in range(options.tokens)]
        ),
        torch.rand(options.tokens, options.choices).bfloat16(),
    )
    ways = {"in place": runner(module, inputs), "copied": runner(copied, inputs)}
    if options.int8:
        ways["in place, int8"] = runner(module, inputs, "int8")
    runs = {name: run for name, (run, _) in ways.items()}
    with torch.inference_mode():
        times = interleave({**runs, "PyTorch": lambda: module(*inputs)}, rounds=options.rounds)
    return [
        {
            "way": name,
            "ms": time.median,
            "iqr_ms": time.spread,
            "gb_s": ways[name][1] / time.median / 1e6 if name in ways else None,
        }
        for name, time in times.items()
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, value in (
        ("tokens", 1),
        ("experts", 128),
        ("choices", 8),
        ("width", 2048),
        ("inner", 768),
        ("rounds", 12),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--int8", action="store_true", help="int8 weights, too")
    parser.add_argument("--json", action="store_true", help="one JSON list instead of the table")
    options = parser.parse_args()
    results = measure(options)
    if options.json:
        print(json.dumps(results, indent=1))
        return
    print("| experts | ms | GB/s that the program states |\n|---|---|---|")
    for r in results:
        speed = "" if r["gb_s"] is None else f"{r['gb_s']:.1f}"
        print(f"| {r['way']} | {r['ms']:.2f} ({r['iqr_ms']:.2f}) | {speed} |")


if __name__ == "__main__":
    main()
