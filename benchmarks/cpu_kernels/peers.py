"""Whole-network latency of PyTorch eager float32 and OpenVINO bfloat16, beside `network`'s figures.

    python peers.py [--networks resnet18,resnet50] [--rounds 9] [--threads 2] [--batch 1] [--json]

The networks are defined here (random weights), because torchvision does not import beside a
CPU-only torch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}


class Block(nn.Module):
    """Basic (two 3x3) or bottleneck (1x1, 3x3, 1x1) residual block."""

    def __init__(self, channels: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out = width * 4 if bottleneck else width
        if bottleneck:
            kernels = [(channels, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)]
        else:
            kernels = [(channels, width, 3, stride), (width, width, 3, 1)]
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, k, s, k // 2, bias=False) for i, o, k, s in kernels
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _, _ in kernels)
        self.shortcut = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = norm(conv(y))
            if i + 1 < len(self.convs):
                y = self.relu(y)
        return self.relu(y + self.shortcut(x))


def resnet(name: str) -> nn.Module:
    """ResNet-18 or ResNet-50 for 224x224 images."""
    bottleneck = name == "resnet50"
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    channels = 64
    for stage, blocks in enumerate(BLOCKS[name]):
        width = 64 << stage
        for i in range(blocks):
            layers.append(Block(channels, width, 2 if stage > 0 and i == 0 else 1, bottleneck))
            channels = width * 4 if bottleneck else width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000)]
    return nn.Sequential(*layers).eval()


def openvino_bf16(model: nn.Module, x: torch.Tensor, threads: int) -> Callable[[], object]:
    """The model compiled as benchmark_app would with -hint latency -infer_precision bf16."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(model, (x,), str(path), dynamo=False)
        core = openvino.Core()
        converted = core.read_model(str(path))
    compiled = core.compile_model(
        converted,
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16",
            "INFERENCE_NUM_THREADS": str(threads),
        },
    )
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(x.numpy(), shared_memory=True))
    return request.infer


def timed(run: Callable[[], object], seconds: float = 0.4) -> float:
    """Milliseconds per call over about `seconds`, after two calls that warm up."""
    run()
    start = time.perf_counter()
    run()
    calls = max(1, int(seconds / (time.perf_counter() - start)))
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return 1000 * (time.perf_counter() - start) / calls


def main() -> None:
    """Print median and quartiles of each network and peer, interleaved."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", default="resnet18,resnet50")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    for name in args.networks.split(","):
        model = resnet(name)
        x = torch.randn(args.batch, 3, 224, 224)
        with torch.inference_mode():
            runs: dict[str, Callable[[], object]] = {"torch eager f32": lambda m=model, v=x: m(v)}
            try:
                runs["OpenVINO bf16"] = openvino_bf16(model, x, args.threads)
            except ImportError:
                print("OpenVINO or onnx is not installed: left out")
            samples: dict[str, list[float]] = {peer: [] for peer in runs}
            for _ in range(args.rounds):
                for peer, run in runs.items():
                    time.sleep(0.05)
                    samples[peer].append(timed(run))
        for peer, ms in samples.items():
            q1, median, q3 = statistics.quantiles(ms, n=4) if len(ms) > 1 else ms * 3
            if args.json:
                row = {"network": name, "batch": args.batch, "peer": peer, "ms": median}
                print(json.dumps({**row, "ms_q1": q1, "ms_q3": q3}))
            else:
                print(f"{name} batch {args.batch} {peer}: {median:.2f} ms ({q1:.2f}-{q3:.2f})")


if __name__ == "__main__":
    main()
