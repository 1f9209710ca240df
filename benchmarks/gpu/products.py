"""Kernels linear, gemm and conv2d on an NVIDIA GPU: schedules beside the records' own launches.

    python benchmarks/gpu/products.py [--only TEXT] [--rounds 20] [--no-plain] [--json]

Shapes of Qwen2.5-1.5B (decode: one row; a few rows; prompts), of ResNet-50 and some others. Each
time is that of a CUDA graph of many dispatches, each with weights of its own, more than the GPU's
cache holds in all, divided by their number. ``floor`` is the larger of the time to read every
operand once at the read bandwidth, measured in the same run, and that of the multiplications at the
GPU's float32 rate. The results of both ways are compared; ``error`` is the largest difference over
the largest value.

It needs a GPU, NVRTC, numpy and ml_dtypes (``PYTHONPATH=python``).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu.measure import read_bandwidth, time_each  # noqa: E402
from npu_compiler.arrays import cast, numpy_dtype  # noqa: E402
from npu_compiler.compiled_program import KernelCall, OperandView  # noqa: E402
from npu_compiler.kernels import KERNELS  # noqa: E402
from tests.gpu.driver import Memory, cuda  # noqa: E402
from tests.gpu.launches import Pick, chosen, make_launches, own_launch  # noqa: E402

# Multiplications and additions per second of an H100's cores in float32.
FLOAT32_RATE = 67e12
# Bytes of weights in all: twice the cache of an H100.
DISTINCT_BYTES = 100 << 20
MOST_CALLS = 64
INFINITY = float("inf")
EPILOGUE = {"activation": 0, "clamp_lo": -INFINITY, "clamp_hi": INFINITY}


@dataclass(frozen=True)
class Case:
    """A dispatch: shapes and dtypes of its operands, fields; strides are those of dense arrays
    unless given.
    """

    name: str
    kernel: str
    operands: Mapping[str, tuple[str, tuple[int, ...]]]
    fields: Mapping[str, Any]
    strides: Mapping[str, tuple[int, ...]]

    def call(self) -> KernelCall:
        """As a program has it; every operand has memory of its own."""
        record = KERNELS[self.kernel]
        views: list[OperandView | None] = []
        for o in record.operands:
            if o.name not in self.operands:
                views.append(None)
                continue
            dtype, shape = self.operands[o.name]
            dense = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
            strides = self.strides.get(o.name, tuple(dense))
            views.append(OperandView(o.name, 0, 0, dtype, shape, strides, o.access))
        shapes = {
            o.name: None if v is None else v.shape
            for o, v in zip(record.operands, views, strict=True)
        }
        env = record.check(shapes, self.fields)
        grid, flops = record.grid(env), record.flop_count(env)
        threads = record.launch.threadgroup
        size = sum(_bytes(v) for v in views if v is not None)
        return KernelCall(
            self.name, self.kernel, tuple(views), self.fields, grid, threads, flops, size
        )


def _bytes(view: OperandView) -> int:
    return int(np.prod(view.shape)) * numpy_dtype(view.dtype).itemsize


def linear(name: str, m: int, n: int, k: int, parts: int = 1, **options: Any) -> Case:
    """A linear layer in bfloat16; ``norm``: RMS norm of x; ``int8``: of int8 weights."""
    bf16, int8 = "bfloat16", options.get("int8", False)
    operands: dict[str, tuple[str, tuple[int, ...]]] = {
        "x": (bf16, (m, k)),
        "w": ("int8" if int8 else bf16, (parts, n, k)),
        "y": (bf16, (m, n)),
    }
    if options.get("norm"):
        operands["scale"] = ("float32", (k,))
    if int8:
        operands["w_scale"] = ("float32", (parts, n))
    if options.get("residual"):
        operands["residual"] = (bf16, (m, n))
    fields = {"norm": int(bool(options.get("norm"))), "eps": 1e-6, **EPILOGUE, "activation": 3}
    return Case(name, "linear", operands, fields, {})


def gemm(name: str, b: int, m: int, n: int, k: int, across: bool = False) -> Case:
    """Batched products in float16; ``across``: the second matrix is [k][n]."""
    f16 = "float16"
    operands = {"x": (f16, (b, m, k)), "w": (f16, (b, n, k)), "y": (f16, (b, m, n))}
    return Case(name, "gemm", operands, EPILOGUE, {"w": (n * k, 1, n)} if across else {})


def conv(name: str, channels: int, side: int, out: int, taps: int, step: int = 1) -> Case:
    """A convolution of one image in float16, channels last; ``side`` of the result."""
    f16, before = "float16", side * step
    operands = {
        "x": (f16, (1, channels, before, before)),
        "w": (f16, (out, taps, taps, channels)),
        "bias": ("float32", (out,)),
        "y": (f16, (1, out, side, side)),
    }
    fields = {f"stride_{axis}": step for axis in "hw"} | {f"dilation_{axis}": 1 for axis in "hw"}
    fields |= {"pad_top": taps // 2, "pad_left": taps // 2, "groups": 1, **EPILOGUE}
    strides = {
        key: (c * s * s, 1, s * c, c) for key, c, s in (("x", channels, before), ("y", out, side))
    }
    return Case(name, "conv2d", operands, fields, strides)


QWEN = {
    "qkv": (2048, 1536, 1, {"norm": True}),
    "out": (1536, 1536, 1, {"residual": True}),
    "gate, up": (8960, 1536, 2, {"norm": True}),
    "down": (1536, 8960, 1, {"residual": True}),
    "head": (151936, 1536, 1, {"norm": True}),
}
RESNET = (
    *((64, 56, 64, 1), (64, 56, 64, 3), (64, 56, 256, 1), (256, 56, 64, 1)),
    *((128, 28, 128, 3), (128, 28, 512, 1), (512, 28, 128, 1), (256, 14, 256, 3)),
    *((256, 14, 1024, 1), (1024, 14, 256, 1), (512, 7, 512, 3), (2048, 7, 512, 1)),
    # A larger image than ResNet's.
    (64, 128, 256, 3),
)
CASES = (
    *(linear(f"{key} 1", 1, n, k, p, **o) for key, (n, k, p, o) in QWEN.items()),
    *(linear(f"{key} int8 1", 1, n, k, p, int8=True, **o) for key, (n, k, p, o) in QWEN.items()),
    *(
        linear(f"{key} {m}", m, n, k, p, **o)
        for m in (4, 8, 16, 128, 1024)
        for key, (n, k, p, o) in QWEN.items()
        if key != "head"
    ),
    gemm("square 512", 1, 512, 512, 512),
    gemm("square 2048", 1, 2048, 2048, 2048),
    gemm("across 2048", 1, 2048, 2048, 2048, across=True),
    gemm("square 4096", 1, 4096, 4096, 4096),
    gemm("batch", 12, 128, 128, 64),
    *(
        conv(f"conv {taps}x{taps} {c} {side} {out}", c, side, out, taps)
        for c, side, out, taps in RESNET
    ),
)


def memory_for(view: OperandView, generator: np.random.Generator) -> Memory:
    """Memory full of small random numbers."""
    memory = Memory(cuda(), _bytes(view))
    block = generator.standard_normal(1 << 18, np.float32)
    if view.dtype == "int8":
        memory.tile(generator.integers(-127, 128, 1 << 20).astype(np.int8))
    else:
        memory.tile(cast(block * (0.01 if view.name == "w_scale" else 0.1), view.dtype))
    return memory


def copies(call: KernelCall, count: int) -> list[list[Memory | None]]:
    """Operands of ``count`` dispatches."""
    generator = np.random.default_rng(0)
    return [
        [None if v is None else memory_for(v, generator) for v in call.operands]
        for _ in range(count)
    ]


def time_of(
    call: KernelCall, operands: Sequence[Sequence[Memory | None]], pick: Pick, rounds: int
) -> tuple[float, str, np.ndarray]:
    """Microseconds of one dispatch, its first entry point, and the first one's result."""
    starts = []
    entry = ""
    for memories in operands:
        addresses = [None if m is None else m.address for m in memories]
        launches = make_launches(call, addresses, pick)
        entry = launches[0].entry
        starts += [launch.start for launch in launches]
    _, total = time_each(starts, rounds)
    result, view = operands[0][-1], call.operands[-1]
    assert result is not None and view is not None
    values = result.download().view(numpy_dtype(view.dtype)).astype(np.float32)
    return total / len(operands), entry, values


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", default="", help="cases whose kernel or name holds this")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--no-plain", action="store_true", help="schedules only")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    bandwidth = read_bandwidth()
    rows = []
    if not options.json:
        print(f"{cuda().name}, reads at {bandwidth / 1e12:.2f} TB/s")
        print(f"{'floor':>7} {'us':>8} {'plain':>8} {'TB/s':>5} {'TFLOP/s':>8} {'error':>8}")
    for case in CASES:
        if options.only not in f"{case.kernel} {case.name}":
            continue
        call = case.call()
        size = call.bytes
        operands = copies(call, min(MOST_CALLS, max(3, DISTINCT_BYTES // size)))
        floor = max(size / bandwidth, call.flops / FLOAT32_RATE) * 1e6
        us, entry, values = time_of(call, operands, chosen, options.rounds)
        row = {
            **{"case": case.name, "entry": entry, "floor": floor, "us": us},
            **{"tb_s": size / us * 1e-6, "tflops": call.flops / us * 1e-6},
        }
        if not options.no_plain:
            rounds = max(3, options.rounds // 4)
            row["plain"], _, expected = time_of(call, operands, own_launch, rounds)
            row["error"] = float(np.abs(values - expected).max() / np.abs(expected).max())
        rows.append(row)
        if not options.json:
            print(
                f"{floor:7.1f} {us:8.1f} {row.get('plain', 0.0):8.1f} {row['tb_s']:5.2f} "
                f"{row['tflops']:8.2f} {row.get('error', 0.0):8.1e}  {case.name}: {entry}",
                flush=True,
            )
    if options.json:
        print(json.dumps({"gpu": cuda().name, "read_bandwidth": bandwidth, "rows": rows}))


if __name__ == "__main__":
    main()
