"""Extraction of large models on the meta device, and the executor's overhead over eager PyTorch.

    python benchmarks/torch_ir/extract.py [--json] [--rounds 3] [--only NAME] [--context 2048]

The models have no weights in memory: a full-size Qwen2.5-1.5B (prefill of 128 tokens, and one
decode step over a static KV cache) and a mixture of experts of more than 100 billion parameters.
Each case runs in a process of its own, so that its peak memory is its own; `baseline` is the memory
of that process with everything imported and the model made.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from torch import nn

import torch_ir

Case = tuple[nn.Module, dict[str, Any] | tuple[torch.Tensor, ...]]

QWEN = {
    "vocab_size": 151936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
}
# The sizes of a 235-billion-parameter Qwen3: 94 layers of 128 experts, 8 of them active.
EXPERTS = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "moe_intermediate_size": 1536,
    "num_hidden_layers": 94,
    "num_attention_heads": 64,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "use_cache": False,
}


class Decode(nn.Module):
    """One step: ids (1, 1), position (1,) -> logits (1, 1, vocabulary). The keys and values of
    earlier tokens lie in buffers, which the step updates in place.
    """

    def __init__(self, model: Any, context: int) -> None:
        from transformers import StaticCache

        super().__init__()
        config = model.config
        self.model = model
        self.cache = StaticCache(config=config, max_cache_len=context)
        width = config.hidden_size // config.num_attention_heads
        shape = (1, config.num_key_value_heads, context, width)
        # The cache's own start; its tensors are replaced by this module's buffers.
        heads = config.num_key_value_heads
        self.cache.early_initialization(1, heads, width, torch.float32, torch.device("meta"))
        for index in range(config.num_hidden_layers):
            self.register_buffer(f"key_{index}", torch.empty(shape, device="meta"))
            self.register_buffer(f"value_{index}", torch.empty(shape, device="meta"))

    def forward(self, input_ids: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        for index, layer in enumerate(self.cache.layers):
            layer.keys = self.get_buffer(f"key_{index}")
            layer.values = self.get_buffer(f"value_{index}")
            layer.device = position.device
            layer.cumulative_length = position[0].clone()
        out = self.model(
            input_ids=input_ids,
            position_ids=position.unsqueeze(0),
            past_key_values=self.cache,
            use_cache=True,
        )
        logits: torch.Tensor = out.logits
        return logits


def _causal_lm(kind: str, settings: dict[str, Any]) -> nn.Module:
    import transformers

    cls = getattr(transformers, f"{kind}ForCausalLM")
    with torch.device("meta"):
        model: nn.Module = cls(cls.config_class(**settings))
    return model.eval()


def _ids(length: int) -> torch.Tensor:
    return torch.zeros(1, length, dtype=torch.int64, device="meta")


def _prefill(context: int) -> Case:
    return _causal_lm("Qwen2", {**QWEN, "use_cache": False}), {"input_ids": _ids(128)}


def _decode(context: int) -> Case:
    model = Decode(_causal_lm("Qwen2", QWEN), context).eval()
    return model, (_ids(1), torch.zeros(1, dtype=torch.int64, device="meta"))


def _experts(context: int) -> Case:
    return _causal_lm("Qwen3Moe", EXPERTS), {"input_ids": _ids(128)}


CASES: dict[str, Callable[[int], Case]] = {
    "qwen2.5-1.5b prefill": _prefill,
    "qwen2.5-1.5b decode": _decode,
    "moe prefill": _experts,
}


def _peak_mib() -> float:
    """Peak resident memory of this process in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _timed(function: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Wall and CPU seconds of a call, and its result. The CPU seconds of code that runs on one
    thread hardly depend on what else the machine does.
    """
    wall, cpu = perf_counter(), process_time()
    result = function()
    return (perf_counter() - wall, process_time() - cpu), result


def measure_extraction(name: str, rounds: int, context: int) -> dict[str, Any]:
    """Seconds of torch.export alone, of extract_ir, and of the IR's way to disk and back: medians
    of wall and of CPU time, with all samples; the peak memory covers everything.
    """
    model, inputs = CASES[name](context)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    baseline = _peak_mib()
    args, kwargs = (inputs, {}) if isinstance(inputs, tuple) else ((), inputs)
    samples: dict[str, list[tuple[float, float]]] = {
        "export": [],
        "extract": [],
        "save": [],
        "load": [],
    }
    # The first trace of a process fills caches of PyTorch; neither side shall pay for it.
    _timed(lambda: torch.export.export(model, args, kwargs, strict=False))
    ir = None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model_ir.json"
        for _ in range(rounds):
            seconds, _ = _timed(lambda: torch.export.export(model, args, kwargs, strict=False))
            samples["export"].append(seconds)
            seconds, ir = _timed(lambda: torch_ir.extract_ir(model, inputs))
            samples["extract"].append(seconds)
            samples["save"].append(_timed(lambda ir=ir: ir.save(path))[0])
            samples["load"].append(_timed(lambda: torch_ir.load_ir(path))[0])
        size = path.stat().st_size
    wall, cpu = (
        {key: statistics.median(pair[clock] for pair in pairs) for key, pairs in samples.items()}
        for clock in (0, 1)
    )
    return {
        "case": name,
        "parameters": parameters,
        "nodes": len(ir.nodes),  # type: ignore[union-attr]
        "json_bytes": size,
        "wall_s": wall,
        "cpu_s": cpu,
        "extract_over_export": cpu["extract"] / cpu["export"] - 1,
        "baseline_mib": baseline,
        "peak_mib": _peak_mib(),
        "samples": samples,
    }


def measure_executor(rounds: int) -> dict[str, Any]:
    """Latency of ResNet-18 (1, 3, 224, 224) through the IR and in eager mode, in alternation."""
    from npu_sim.models import resnet18

    torch.manual_seed(0)
    model, image = resnet18().eval(), torch.randn(1, 3, 224, 224)
    executor = torch_ir.IRExecutor(torch_ir.extract_ir(model, image), model.state_dict())

    def eager() -> Any:
        with torch.no_grad():
            return model(image)

    times: dict[str, list[float]] = {"eager": [], "ir": []}
    for index in range(10 * rounds + 5):
        for name, run in (("eager", eager), ("ir", lambda: executor.execute(image))):
            (seconds, _), _ = _timed(run)
            if index >= 5:
                times[name].append(seconds * 1e3)
    # Other processes only ever add time: the fastest runs say what the code costs.
    best = {name: min(values) for name, values in times.items()}
    return {
        "case": "resnet18 executor",
        "eager_ms": best["eager"],
        "ir_ms": best["ir"],
        "median_eager_ms": statistics.median(times["eager"]),
        "median_ir_ms": statistics.median(times["ir"]),
        "ir_over_eager": best["ir"] / best["eager"] - 1,
    }


def _in_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one case in a fresh process."""
    command = [sys.executable, __file__, "--case", name, "--rounds", str(options.rounds)]
    command += ["--context", str(options.context)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{name}: failed\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _line(result: dict[str, Any]) -> str:
    if "ir_ms" in result:
        return (
            f"{result['case']}: eager {result['eager_ms']:.2f} ms, IR {result['ir_ms']:.2f} ms "
            f"({result['ir_over_eager']:+.1%})"
        )
    wall, cpu = result["wall_s"], result["cpu_s"]
    return (
        f"{result['case']}: {result['parameters'] / 1e9:.2f} B parameters, {result['nodes']} nodes"
        f", {result['json_bytes'] / 1e6:.2f} MB of JSON; CPU seconds (wall): torch.export "
        f"{cpu['export']:.2f} ({wall['export']:.2f}), extract_ir {cpu['extract']:.2f} "
        f"({wall['extract']:.2f}), {result['extract_over_export']:+.1%}; save {cpu['save']:.3f} "
        f"({wall['save']:.3f}), load {cpu['load']:.3f} ({wall['load']:.3f}); peak "
        f"{result['peak_mib']:.0f} MiB, {result['baseline_mib']:.0f} before"
    )


def main() -> None:
    """Measure the chosen cases and print a line, or a JSON object, for each."""
    names = [*CASES, "resnet18 executor"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of each measurement")
    parser.add_argument("--context", type=int, default=2048, help="tokens in the decode cache")
    parser.add_argument("--only", choices=names, help="one case")
    parser.add_argument("--case", choices=names, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case is not None:
        logging.disable(logging.ERROR)
        warnings.simplefilter("ignore")
        if options.case in CASES:
            print(json.dumps(measure_extraction(options.case, options.rounds, options.context)))
        else:
            print(json.dumps(measure_executor(options.rounds)))
        return
    for name in [options.only] if options.only else names:
        result = _in_process(name, options)
        print(json.dumps(result) if options.json else _line(result), flush=True)


if __name__ == "__main__":
    main()
