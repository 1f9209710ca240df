"""GPU time of every dispatch of a program on an NVIDIA GPU: the shaders, compiled with NVRTC.

    python benchmarks/gpu/dispatches.py FILE.npubin [--entry NAME] [--input NAME=VALUE ...]
        [--rounds 30] [--each] [--top 40] [--plain] [--json]

The dispatches run in order, as one CUDA graph with an event behind each, so that caches are as in
a run; a dispatch's time is the median of the rounds and includes the gap to the next kernel, which
an empty kernel's time shows. What the events add to the whole, beside a graph without, is taken
off in equal parts. Weights and floating inputs are random, made on the GPU;
integer inputs are 0, or ``--input NAME=VALUE`` (positions=4095) throughout; the name may be its
beginning. Equal dispatches are one row. ``share`` is bytes / time over the GPU's read bandwidth,
measured in the same run; the bytes are each operand's once, so that a dispatch that skips keys, or
whose operands lie in caches, can exceed it.

It needs a GPU, NVRTC, numpy and ml_dtypes; neither PyTorch nor a build (``PYTHONPATH=python``).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu.measure import empty_kernel, read_bandwidth, time_each  # noqa: E402
from npu_compiler.arrays import cast, numpy_dtype  # noqa: E402
from npu_compiler.compiled_program import CompiledProgram, KernelCall, TensorSpec  # noqa: E402
from npu_compiler.dtypes import FLOATING  # noqa: E402
from tests.gpu.driver import cuda  # noqa: E402
from tests.gpu.execution import GpuProgram  # noqa: E402
from tests.gpu.launches import Launch, Pick, chosen, own_launch  # noqa: E402

_BLOCK = 1 << 20


def _random(spec: TensorSpec, generator: np.random.Generator) -> np.ndarray:
    """A block of values of a tensor's storage dtype: small, so that nothing overflows."""
    if spec.storage_dtype in FLOATING:
        return cast(generator.standard_normal(_BLOCK, np.float32) * 0.02, spec.storage_dtype)
    return generator.integers(0, 2, _BLOCK).astype(numpy_dtype(spec.storage_dtype))


def filled(
    program: CompiledProgram, entry: str | None, values: dict[str, int], pick: Pick
) -> GpuProgram:
    """The program in GPU memory with random weights and inputs. Raises KeyError for a name in
    ``values`` that begins no input's.
    """
    gpu = GpuProgram(program, None, entry, pick=pick)
    generator = np.random.default_rng(0)
    blocks: dict[str, np.ndarray] = {}
    for spec in program.weight_specs:
        if spec.storage_dtype not in blocks:
            blocks[spec.storage_dtype] = _random(spec, generator)
        gpu.memory(spec).tile(blocks[spec.storage_dtype])
    left = set(values)
    for spec in gpu.entry.input_specs:
        if spec.storage_dtype in FLOATING:
            gpu.memory(spec).tile(_random(spec, generator))
            continue
        name = next((n for n in values if spec.name.startswith(n)), None)
        left.discard(name or "")
        gpu.memory(spec).tile(
            np.full(16, 0 if name is None else values[name], numpy_dtype(spec.storage_dtype))
        )
    if left:
        names = [s.name for s in gpu.entry.input_specs]
        raise KeyError(f"no input begins with {sorted(left)}; there are {names}")
    return gpu


def _what(call: KernelCall, entry: str) -> str:
    views = [
        f"{view.name}{'x'.join(map(str, view.shape))}"
        for view in call.operands
        if view is not None and view.shape
    ]
    return f"{entry} {' '.join(views[:3])} -> {views[-1]}"


@dataclass
class Row:
    """Dispatches of one kind: how many, their time in all, bytes and operations of one."""

    what: str
    bytes: int
    flops: int
    count: int = 0
    us: float = 0.0

    @property
    def us_each(self) -> float:
        """Microseconds of one."""
        return self.us / self.count

    def share(self, bandwidth: float) -> float:
        """Its bytes per second as a part of ``bandwidth``."""
        return self.bytes / (self.us_each * 1e-6) / bandwidth

    @property
    def tflops(self) -> float:
        """10**12 operations per second."""
        return self.flops / self.us_each * 1e-6


def _start(launches: list[Launch]) -> None:
    for launch in launches:
        launch.start()


def rows_of(gpu: GpuProgram, times: list[float], each: bool) -> list[Row]:
    """One row per kind of dispatch (or per dispatch), the most time first."""
    rows: dict[object, Row] = {}
    for number, (call, time) in enumerate(zip(gpu.calls, times, strict=True)):
        what = _what(call, gpu.launches[number][0].entry)
        key = number if each else what
        row = rows.setdefault(key, Row(what, call.bytes, call.flops))
        row.count += 1
        row.us += time
    return sorted(rows.values(), key=lambda row: -row.us)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--entry")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--each", action="store_true", help="a row for every dispatch")
    parser.add_argument("--top", type=int, default=40, help="rows of the table")
    parser.add_argument("--plain", action="store_true", help="no schedules")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    program = CompiledProgram.load(options.program)
    values = {n: int(v) for n, v in (text.split("=") for text in options.input)}
    gpu = filled(program, options.entry, values, own_launch if options.plain else chosen)
    starts = [partial(_start, launches) for launches in gpu.launches]
    times, total = time_each(starts, options.rounds)
    bandwidth = read_bandwidth()
    gap = empty_kernel()
    event = max(sum(times) - total, 0.0) / len(times)
    times = [time - event for time in times]
    rows = rows_of(gpu, times, options.each)
    if options.json:
        summary = {
            "program": options.program.name,
            "entry": gpu.entry.name,
            "gpu": cuda().name,
            "read_bandwidth": bandwidth,
            "empty_kernel_us": gap,
            "us": total,
            "event_us": event,
            "dispatches": len(times),
            "bytes": sum(call.bytes for call in gpu.calls),
        }
        shown = [
            {**asdict(r), "us_each": r.us_each, "share": r.share(bandwidth), "tflops": r.tflops}
            for r in rows
        ]
        print(json.dumps({**summary, "rows": shown}))
        return
    print(
        f"{options.program.name}, {gpu.entry.name}, on {cuda().name}: {total:.0f} us for "
        f"{len(times)} dispatches (an empty kernel {gap:.1f} us); reads at "
        f"{bandwidth / 1e12:.2f} TB/s"
    )
    print(f"{'us each':>9} {'count':>5} {'sum us':>8} {'share':>6} {'TFLOP/s':>8}  dispatch")
    for row in rows[: options.top]:
        print(
            f"{row.us_each:9.1f} {row.count:5} {row.us:8.0f} {row.share(bandwidth):6.1%} "
            f"{row.tflops:8.2f}  {row.what}"
        )


if __name__ == "__main__":
    main()
