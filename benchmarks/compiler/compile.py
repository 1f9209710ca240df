"""What the compiler costs and makes: time, dispatches, copies, arena, speed against the same
model unoptimised.

    python benchmarks/compiler/compile.py [--json] [--only NAME] [--no-run]

Compile time is the median of several compilations from the IR's dict. "Unoptimised" is
``compile(..., optimize=False)``: every node by itself. Both programs run in turns on the cpu
device; models without weights in memory are only compiled. Needs transformers for some models.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks" / "torch_ir")]

import extract  # noqa: E402

import npu_compiler  # noqa: E402
from npu_runtime import Device, Executor, load_weights  # noqa: E402
from npu_sim.bench.measure import interleave  # noqa: E402
from npu_sim.models import random_images, resnet18, resnet50, trained_like  # noqa: E402
from torch_ir import extract_ir  # noqa: E402

Inputs = dict[str, Any] | tuple[torch.Tensor, ...]
Case = tuple[nn.Module, Inputs]
ROUNDS = 5


def _resnet(make: Callable[[], nn.Module]) -> Case:
    return trained_like(make()), (random_images(1),)


def _family(name: str) -> Case:
    from tests.families.records import FAMILIES

    return next(family for family in FAMILIES if family.name == name).build()


def _vit() -> Case:
    from transformers import ViTConfig, ViTModel

    model = ViTModel(ViTConfig(), add_pooling_layer=False).eval()
    return model, {"pixel_values": torch.randn(1, 3, 224, 224)}


def _bert() -> Case:
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(), add_pooling_layer=False).eval()
    return model, {"input_ids": torch.randint(0, 30000, (1, 128))}


def _decode() -> Case:
    """One decode step of Qwen2.5-1.5B over 2,048 tokens of caches, which it updates in place."""
    return extract._decode(2048)


# Whether the model has weights in memory, so that it can run.
CASES: dict[str, tuple[Callable[[], Case], bool]] = {
    "ResNet-18": (lambda: _resnet(resnet18), True),
    "ResNet-50": (lambda: _resnet(resnet50), True),
    "ViT-B": (_vit, True),
    "BERT-base, 128 tokens": (_bert, True),
    "U-Net, small": (lambda: _family("U-Net"), True),
    "MobileNetV3, small": (lambda: _family("MobileNetV3"), True),
    "EfficientNet, small": (lambda: _family("EfficientNet"), True),
    "DenseNet, small": (lambda: _family("DenseNet"), True),
    "ConvNeXt, small": (lambda: _family("ConvNeXt"), True),
    "Swin, small": (lambda: _family("Swin"), True),
    "GPT-2, small": (lambda: _family("GPT-2"), True),
    "Llama, small": (lambda: _family("Llama"), True),
    "T5, small": (lambda: _family("T5"), True),
    "Whisper, small": (lambda: _family("Whisper"), True),
    "Qwen2.5-1.5B decode": (_decode, False),
}


def measure(name: str, run: bool) -> dict[str, Any]:
    """Compile a model, and time it against itself unoptimised."""
    make, has_weights = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, inputs = make()
        ir = extract_ir(model, inputs).to_dict()
    plan = npu_compiler.partition(ir)
    largest = max(
        (p for p in plan.partitions if p.target == "npu"), key=lambda p: len(p.nodes), default=None
    )
    if largest is None:
        raise ValueError(f"{name}: nothing runs on the NPU")
    source = ir if len(plan.partitions) == 1 and has_weights else plan.sub_ir(largest)
    seconds = []
    for _ in range(ROUNDS):
        gc.collect()
        start = perf_counter()
        program = npu_compiler.compile(source)
        seconds.append(perf_counter() - start)
    plain = npu_compiler.compile(source, optimize=False)
    bound = int(program.metadata["arena_lower_bound"])
    found: dict[str, Any] = {
        "model": name,
        "nodes": len(ir["nodes"]),
        "nodes_in_program": len(source["nodes"]),
        "segments": len(plan.partitions),
        "compile_ms": statistics.median(seconds) * 1e3,
        "dispatches": len(program.kernel_calls),
        "dispatches_unoptimised": len(plain.kernel_calls),
        "copies": int(program.metadata["copies"]),
        "arena_bytes": program.arena_size,
        "arena_over_bound": program.arena_size / bound if bound else 1.0,
    }
    if run and has_weights and len(plan.partitions) == 1:
        arrays = [t.numpy() for t in (inputs.values() if isinstance(inputs, dict) else inputs)]
        runs = {
            label: _runner(compiled, model, arrays)
            for label, compiled in (("optimised", program), ("unoptimised", plain))
        }
        times = interleave(runs, rounds=8)
        found |= {f"{label}_ms": stats.median for label, stats in times.items()}
        found |= {f"{label}_iqr_ms": stats.spread for label, stats in times.items()}
    return found


def _runner(program: Any, model: nn.Module, arrays: list[Any]) -> Callable[[], object]:
    device = Device("cpu")
    executor = Executor(program, device)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    weights = load_weights(state, program, device, strict=False)
    named = dict(zip((spec.name for spec in program.input_specs), arrays, strict=True))
    return lambda: executor.run(named, weights)


def _row(found: dict[str, Any]) -> str:
    speed = "|  |  |  "
    if "optimised_ms" in found:
        own, plain = found["optimised_ms"], found["unoptimised_ms"]
        speed = (
            f"| {own:.2f} ({found['optimised_iqr_ms']:.2f}) "
            f"| {plain:.2f} ({found['unoptimised_iqr_ms']:.2f}) | {plain / own:.2f} "
        )
    return (
        f"| {found['model']} | {found['nodes']} | {found['compile_ms']:.0f} "
        f"| {found['dispatches']} "
        f"| {found['dispatches_unoptimised']} | {found['copies']} "
        f"| {found['arena_bytes'] / 2**20:.2f} | {found['arena_over_bound']:.2f} {speed}|"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="one JSON list instead of the table")
    parser.add_argument("--only", action="append", choices=sorted(CASES), help="may be repeated")
    parser.add_argument("--no-run", action="store_true", help="compile only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    titles = (
        "model, nodes, compile ms, dispatches, unoptimised, copies, arena MiB, over bound, "
        "ms, unoptimised ms, ratio"
    )
    if not options.json:
        print("| " + titles.replace(", ", " | ") + " |\n" + "|---" * len(titles.split(",")) + "|")
    for name in options.only or CASES:
        found = measure(name, not options.no_run)
        results.append(found)
        if not options.json:
            print(_row(found), flush=True)
    if options.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
