"""Kernel attention on an NVIDIA GPU beside PyTorch's scaled_dot_product_attention.

    python benchmarks/gpu/attention.py [--plain] [--each] [--json] [--only TEXT]

Decode: one query of each of 12 heads in a cache of 2 heads of keys; prefill: causal prompts of 12
heads. Head width 128, bfloat16. Each time is that of a CUDA graph of many calls, each over keys and
values of its own, more than the GPU's cache holds, divided by their number. PyTorch is given
exactly the keys that are seen; the kernel finds them by the position. ``--plain`` adds the kernel
without schedules, ``--each`` each schedule that is right for the case. ``floor`` is the time to
read keys and values at the measured bandwidth, or for prompts that of the multiplications at the
GPU's float32 rate (67 TFLOP/s on an H100).

Needs PyTorch with CUDA on top of what dispatches.py needs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu.measure import read_bandwidth, time_each  # noqa: E402
from npu_compiler.compiled_program import KernelCall, OperandView  # noqa: E402
from npu_compiler.dtypes import DTYPES  # noqa: E402
from npu_compiler.kernels import KERNELS  # noqa: E402
from tests.gpu.driver import Memory, cuda  # noqa: E402
from tests.gpu.launches import Pick, chosen, fitting, make_launches, own_launch  # noqa: E402

HEADS, KV_HEADS, WIDTH = 12, 2, 128
FLOAT32_RATE = 67e12
# Bytes of keys and values in all: twice the cache of an H100.
DISTINCT_BYTES = 100 << 20
MOST_CALLS = 64


@dataclass(frozen=True)
class Case:
    """``queries`` positions that end at ``position``; the cache has ``rows``."""

    name: str
    queries: int
    position: int
    rows: int

    @property
    def seen(self) -> int:
        """Keys that the last query sees."""
        return self.position + 1

    @property
    def calls(self) -> int:
        """Calls in a graph."""
        size = self.seen * KV_HEADS * WIDTH * 2 * 2
        return min(MOST_CALLS, max(4, DISTINCT_BYTES // size))

    def floor(self, bandwidth: float) -> float:
        """Microseconds."""
        if self.queries == 1:
            return self.seen * KV_HEADS * WIDTH * 2 * 2 / bandwidth * 1e6
        return 2 * self.queries * self.seen * HEADS * WIDTH * 2 / 2 / FLOAT32_RATE * 1e6


CASES = (
    *(Case(f"decode at {n} of 1024", 1, n - 1, 1025) for n in (32, 128, 512, 1024)),
    *(Case(f"decode at {n} of 4096", 1, n - 1, 4097) for n in (128, 512, 1024, 2048, 4096)),
    Case("decode at 32768", 1, 32767, 32769),
    *(Case(f"{n} tokens at 128", n, 127, 129) for n in (4, 8, 16)),
    *(Case(f"prefill of {n}", n, n - 1, 4097) for n in (128, 1024)),
)


def kernel_call(case: Case) -> KernelCall:
    """The dispatch; offsets are 0, each operand has memory of its own."""
    kernel = KERNELS["attention"]
    q = (1, HEADS, case.queries, WIDTH)
    kv = (1, KV_HEADS, case.rows, WIDTH)
    by_head = (case.queries * HEADS * WIDTH, WIDTH, HEADS * WIDTH, 1)
    cache = (case.rows * KV_HEADS * WIDTH, WIDTH, KV_HEADS * WIDTH, 1)
    views = {
        "q": ("bfloat16", q, by_head),
        "k": ("bfloat16", kv, cache),
        "v": ("bfloat16", kv, cache),
        "positions": ("int64", (1, case.queries), (case.queries, 1)),
        "y": ("bfloat16", q, by_head),
    }
    operands = tuple(
        OperandView(o.name, 0, 0, *views[o.name], o.access) if o.name in views else None
        for o in kernel.operands
    )
    fields = {"scale": WIDTH**-0.5, "causal": 0, "empty_is_nan": 0, "window": 0, "softcap": 0.0}
    shapes = {
        o.name: None if v is None else v.shape
        for o, v in zip(kernel.operands, operands, strict=True)
    }
    env = kernel.check(shapes, fields)
    grid = kernel.grid(env)
    return KernelCall("attention", "attention", operands, fields, grid, kernel.launch.threadgroup)


def kernel_time(case: Case, pick: Pick = chosen) -> float:
    """Microseconds of the kernel."""
    call = kernel_call(case)
    block = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).bfloat16()
    numbers = np.arange(case.position + 1 - case.queries, case.position + 1)
    kept: list[Memory] = []
    starts: list[Callable[[], None]] = []
    for _ in range(case.calls):
        addresses: list[int | None] = []
        for view in call.operands:
            if view is None:
                addresses.append(None)
                continue
            elements = view.shape[0] * view.strides[0]
            memory = Memory(cuda(), elements * DTYPES[view.dtype].size)
            if view.name == "positions":
                memory.upload(numbers)
            else:
                memory.tile(block.view(torch.int16).numpy())
            kept.append(memory)
            addresses.append(memory.address)
        starts += [launch.start for launch in make_launches(call, addresses, pick)]
    _, total = time_each(starts, 20)
    return total / case.calls


def torch_time(case: Case) -> float:
    """Microseconds of PyTorch over the keys that are seen, heads of keys shared."""
    made = [
        tuple(
            torch.randn(1, n, heads, WIDTH, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
            for n, heads in ((case.queries, HEADS), (case.seen, KV_HEADS), (case.seen, KV_HEADS))
        )
        for _ in range(case.calls)
    ]

    def run() -> None:
        for q, k, v in made:
            scaled_dot_product_attention(q, k, v, is_causal=case.queries > 1, enable_gqa=True)

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    times = []
    for _ in range(23):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) * 1000)
    return median(times[3:]) / case.calls


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--each", action="store_true")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    bandwidth = read_bandwidth()
    rows = []
    for case in CASES:
        if options.only not in case.name:
            continue
        row = {**asdict(case), "floor": case.floor(bandwidth), "us": kernel_time(case)}
        if options.plain:
            row["plain"] = kernel_time(case, own_launch)
        for schedule in fitting(kernel_call(case)) if options.each else ():
            row[schedule.name] = kernel_time(case, lambda _, schedule=schedule: schedule)
        row["torch"] = torch_time(case)
        rows.append(row)
        if not options.json:
            times = (f"{k} {v:.1f} us" for k, v in row.items() if isinstance(v, float))
            print(f"{case.name}: {', '.join(times)}", flush=True)
    if options.json:
        print(json.dumps({"gpu": cuda().name, "read_bandwidth": bandwidth, "rows": rows}))


if __name__ == "__main__":
    main()
