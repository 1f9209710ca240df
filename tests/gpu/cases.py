"""Programs with inputs, weights and PyTorch's results: run at once, or written to a file and run
on a machine with a GPU that has neither PyTorch nor a build.

``python -m tests.gpu.cases --write FILE`` writes a selection; ``--run FILE`` runs what a file
holds, which takes numpy, ml_dtypes, NVRTC, CUDA's driver and this source tree
(``PYTHONPATH=python:.``).
"""

from __future__ import annotations

import argparse
import gzip
import pickle
import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from npu_compiler.compiled_program import CompiledProgram
from npu_compiler.kernels import KERNELS
from tests.gpu.execution import GpuProgram, device_weights
from tests.gpu.launches import Pick, chosen, fitting, fitting_number, own_launch
from tests.npu_compiler.comparison import TOLERANCE, check_padding, compare

if TYPE_CHECKING:
    import torch
    from torch import nn

_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class GpuCase:
    """A program (the bytes of a .npubin) with inputs in order, device weights, and what PyTorch
    computes.
    """

    name: str
    program: bytes
    inputs: list[np.ndarray]
    weights: list[np.ndarray]
    expected: list[np.ndarray]

    def run(self, pick: Pick = chosen, separate: bool = False) -> list[str]:
        """Run on the GPU and compare; the names of the entry points that ran.

        Raises AssertionError for other results, CudaError.
        """
        program = CompiledProgram.from_bytes(self.program)
        gpu = GpuProgram(program, self.weights, separate=separate, pick=pick)
        results = gpu.run(self.inputs)
        assert len(results) == len(self.expected)
        for slot, (result, expected) in enumerate(zip(results, self.expected, strict=True)):
            actual, raw = result
            try:
                compare(actual, expected, TOLERANCE[program.compute_dtype])
            except AssertionError as error:
                raise AssertionError(f"output {slot}: {error}") from None
            check_padding(program.output_specs[slot], raw)
        return [launch.entry for launches in gpu.launches for launch in launches]

    def picks(self) -> Iterator[tuple[str, Pick]]:
        """Every way to run it, with a name: as a GPU device does, by the records' own launches, and
        so that each dispatch runs once by each schedule that is right for it.
        """
        yield "as chosen", chosen
        calls = CompiledProgram.from_bytes(self.program).kernel_calls
        most = max((len(fitting(call)) for call in calls), default=0)
        if most:
            yield "own launches", own_launch
        for number in range(most):
            yield f"schedule {number} that fits", fitting_number(number)


def make_case(name: str, module: nn.Module, *inputs: torch.Tensor, **options: Any) -> GpuCase:
    """A case from a module; ``options`` as those of ``npu_compiler.compile``."""
    from tests.npu_compiler.harness import prepare

    made = prepare(module, *inputs, **options)
    weights = device_weights(made.program, made.state)
    return GpuCase(
        name, made.program.to_bytes(), list(made.inputs.values()), weights, made.expected
    )


def operators(step: int = 1, first: int = 0) -> Iterator[GpuCase]:
    """Every ``step``-th case of the op records in float32, from number ``first`` on."""
    from tests.npu_compiler.test_ops import CASES

    for case in CASES[first::step]:
        yield make_case(f"op {case.name}", case.module(), *case.inputs, compute_dtype="float32")


def kernels() -> Iterator[GpuCase]:
    """Each kernel in each dtype that it computes in."""
    from tests.metal_standin.test_ops import CASES
    from tests.npu_compiler.harness import Function, images

    for dtype in _DTYPES:
        for name, (function, shapes) in CASES.items():
            inputs = [images(*shape, seed=i) for i, shape in enumerate(shapes)]
            yield make_case(f"{name}, {dtype}", Function(function), *inputs, compute_dtype=dtype)


def attention() -> Iterator[GpuCase]:
    """Attention of few and of many queries in each dtype: heads that share keys, widths, masks."""
    from torch.nn.functional import scaled_dot_product_attention

    from tests.npu_compiler.harness import Function, images

    # Queries, keys, heads of queries and of keys, width.
    sizes = {
        "one query": (1, 300, 12, 2, 128),
        "few queries, wide": (3, 200, 4, 1, 256),
        "many": (70, 150, 6, 2, 80),
        "many, wide": (33, 66, 2, 2, 256),
        "many, with many keys": (100, 1100, 3, 1, 64),
    }
    for dtype in _DTYPES:
        for name, (m, n, heads, kv_heads, width) in sizes.items():
            for masked in (False, True):
                shapes = [(1, heads, m, width), *[(1, kv_heads, n, width)] * 2]
                if masked:
                    shapes.append((1, heads, m, n))

                def attend(q: Any, k: Any, v: Any, *mask: Any) -> Any:
                    return scaled_dot_product_attention(q, k, v, *mask, enable_gqa=True)

                inputs = [images(*shape, seed=i) for i, shape in enumerate(shapes)]
                yield make_case(
                    f"attention, {name}{', mask' * masked}, {dtype}",
                    *(Function(attend), *inputs),
                    compute_dtype=dtype,
                )


def products() -> Iterator[GpuCase]:
    """Linear layers of few and many rows, matrix products and convolutions in each dtype, whose
    sizes fill no tile.
    """
    import torch
    from torch import nn

    from tests.npu_compiler.experts import Experts, routed
    from tests.npu_compiler.harness import Function, images, trained_like

    for dtype in _DTYPES:
        for rows in (1, 6, 70):
            yield make_case(
                f"gated layer, {rows} rows, {dtype}",
                *(trained_like(_gated(264, 136)), images(rows, 264)),
                compute_dtype=dtype,
                weights_in_place=True,
            )
        layer = nn.Linear(272, 72)
        with torch.no_grad():
            # Exact in int8.
            layer.weight.copy_(torch.randint(-126, 127, (72, 272)) / 2048)
            layer.weight[:, 0] = 127 / 2048
        yield make_case(
            f"int8 layer, {dtype}",
            *(layer, images(20, 272)),
            compute_dtype=dtype,
            weight_dtype="int8",
        )
        for weight_dtype in (None, "int8"):
            yield make_case(
                f"experts, {weight_dtype or dtype}, {dtype}",
                *(Experts(5, 272, 80), *routed(3, 5, 272)),
                compute_dtype=dtype,
                weight_dtype=weight_dtype,
            )
        for name, w in (("rows", (2, 72, 40)), ("columns", (2, 40, 72))):
            across = name == "columns"

            def product(x: Any, w: Any, across: bool = across) -> Any:
                return (x @ w if across else x @ w.transpose(1, 2)).relu()

            yield make_case(
                f"product with {name}, {dtype}",
                *(Function(product), images(2, 70, 40), images(*w, seed=1)),
                compute_dtype=dtype,
            )
        for groups, stride in ((1, 1), (2, 2)):
            yield make_case(
                f"convolution, {groups} groups, {dtype}",
                trained_like(nn.Conv2d(128, 144, 3, stride, 1, groups=groups)),
                images(2, 128, 11, 9),
                compute_dtype=dtype,
            )


def extremes() -> Iterator[GpuCase]:
    """The place of the largest and of the smallest in long rows, with ties, in each dtype."""
    import torch

    from tests.npu_compiler.harness import Function, images

    for dtype in _DTYPES:
        for length in (5000, 5003):
            x = torch.round(images(3, length) * 8)
            x[0, 4999] = x[0, 77] = 99
            x[1, 3] = -torch.inf
            x[2, [6, 4998]] = torch.nan
            yield make_case(
                f"extremes of {length}, {dtype}",
                *(Function(lambda x: (x.argmax(-1), x.argmin(-1))), x),
                compute_dtype=dtype,
            )


def _gated(width: int, inner: int) -> nn.Module:
    """RMS norm, then a gated linear layer, a linear layer and what came in."""
    import torch
    from torch import nn
    from torch.nn.functional import silu

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(width))
            self.gate = nn.Linear(width, inner, bias=False)
            self.up = nn.Linear(width, inner, bias=False)
            self.down = nn.Linear(inner, width, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            wide = x.float()
            rms = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)
            normed = self.scale * rms
            return x + self.down(silu(self.gate(normed)) * self.up(normed))

    return Gated()


def models() -> Iterator[GpuCase]:
    """ResNet-18, and steps of small language models with their caches written in place."""
    import torch

    from npu_sim.models.resnet import resnet18
    from tests.npu_compiler.decoders import Decoder, inputs_for, tiny
    from tests.npu_compiler.harness import images, ir_of, trained_like

    yield make_case(
        "ResNet-18",
        trained_like(resnet18()),
        images(2, 3, 64, 64),
        compute_dtype="float16",
    )
    for family, window in (("Qwen2", 0), ("Qwen3", 0), ("Gemma2", 7)):
        model = tiny(family)
        for batch, tokens in ((1, 1), (2, 4), (1, 40)):
            decoder = Decoder(model, window).eval()
            inputs = inputs_for(model, batch, tokens, 175, torch.float32)
            names = [tensor["name"] for tensor in ir_of(decoder, inputs)["graph_inputs"]][3:]
            yield make_case(
                f"{family}, {batch} x {tokens} tokens",
                *(decoder, *inputs),
                compute_dtype="float32",
                donate_inputs=names,
                weights_in_place=True,
            )


SELECTIONS = {
    "kernels": kernels,
    "attention": attention,
    "products": products,
    "extremes": extremes,
    "models": models,
    "operators": operators,
}


def write(file: IO[bytes], cases: Iterable[GpuCase]) -> int:
    """Write cases one behind the other; returns how many. (Pickled: for files of one's own.)"""
    count = 0
    for case in cases:
        pickle.dump(case, file, protocol=pickle.HIGHEST_PROTOCOL)
        count += 1
    return count


def read(file: IO[bytes]) -> Iterator[GpuCase]:
    """The inverse of ``write``."""
    while True:
        try:
            yield pickle.load(file)
        except EOFError:
            return


def run_all(cases: Iterable[GpuCase], separate: bool = False, every_way: bool = True) -> bool:
    """Run cases (in every way, or just as a GPU device does) and print what failed and which entry
    points ran; False where one failed.
    """
    ran: Counter[str] = Counter()
    failed = count = 0
    for case in cases:
        for name, pick in case.picks() if every_way else [("as chosen", chosen)]:
            count += 1
            try:
                ran.update(case.run(pick, separate))
            except Exception as error:
                failed += 1
                print(f"FAILED {case.name}, {name}: {type(error).__name__}: {error}", flush=True)
                if not isinstance(error, AssertionError):
                    traceback.print_exc()
    print(f"{count - failed} of {count} runs are right; launches by entry point:")
    print(", ".join(f"{name} {number}" for name, number in sorted(ran.items())), flush=True)
    return failed == 0


def schedules_not_in(output: str, kernels: Iterable[str]) -> list[str]:
    """Entry points of the kernels' schedules of which ``run_all`` printed no launch."""
    ran = set(output.replace(",", " ").split())
    return [
        entry.name
        for kernel in (KERNELS[name] for name in kernels)
        for entry in kernel.entry_points
        if entry.schedule and not ran & set(entry.variants(kernel.type_values))
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--write", type=Path, metavar="FILE")
    parser.add_argument("--run", type=Path, metavar="FILE")
    parser.add_argument("--select", default=",".join(SELECTIONS), help="with --write")
    parser.add_argument("--step", type=int, default=1, help="every so many of the operators")
    parser.add_argument("--every", type=int, default=1, help="with --run: every so many cases")
    parser.add_argument("--as-chosen", action="store_true", help="not in every way")
    parser.add_argument("--separate", action="store_true", help="memory for every intermediate")
    options = parser.parse_args()
    if options.write is not None:
        with gzip.open(options.write, "wb", compresslevel=3) as file:
            for name in options.select.split(","):
                made = operators(options.step) if name == "operators" else SELECTIONS[name]()
                print(f"{name}: {write(file, made)} cases")
    if options.run is not None:
        with gzip.open(options.run, "rb") as file:
            selected = (case for i, case in enumerate(read(file)) if i % options.every == 0)
            if not run_all(selected, options.separate, not options.as_chosen):
                sys.exit(1)


if __name__ == "__main__":
    # Under its own name, so that what one run pickles another finds.
    from tests.gpu import cases

    cases.main()
