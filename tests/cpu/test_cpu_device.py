"""The cpu device as a whole: name, instruction sets, threads, bad programs, reference device."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npu_compiler.kernels.scalar_ops import Instruction
from npu_runtime.errors import ProgramError
from tests.cpu.elementwise_code import constant, elementwise, load, op, store
from tests.cpu.single_dispatch import Array, SingleDispatch, device, place
from tests.reference.activations import epilogue
from tests.reference.layouts import FLOATS, normal

ISAS = ("generic", "avx2", "avx512", "avx512_bf16", "amx")
NO_CLAMP = epilogue()


def run_python(environment: dict[str, str], *arguments: str) -> str:
    """What a fresh interpreter prints; the environment is read when the device opens."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_name_tells_processor_instruction_set_and_threads() -> None:
    code = "from npu_runtime._native import Device; print(Device('cpu').name)"
    name = run_python({"NPU_SIM_CPU_ISA": "generic", "NPU_SIM_NUM_THREADS": "3"}, "-c", code)
    assert name.strip().endswith("(generic), 3 threads")
    assert len(name) > len(" (generic), 3 threads\n")
    name = run_python({"NPU_SIM_CPU_ISA": "generic", "NPU_SIM_NUM_THREADS": "1"}, "-c", code)
    assert name.strip().endswith("1 thread")


@pytest.mark.parametrize("isa", ISAS)
def test_every_instruction_set_is_right(isa: str) -> None:
    """The random tests of this folder in a process that is held to one instruction set."""
    if isa != "generic" and isa not in supported_isas():
        pytest.skip(f"this machine lacks {isa}")
    here = Path(__file__).parent
    files = [str(p) for p in sorted(here.glob("test_*.py")) if p != Path(__file__)]
    chosen = ("-k", "seed0 or seed1", "-p", "no:cacheprovider")
    output = run_python({"NPU_SIM_CPU_ISA": isa}, "-m", "pytest", *chosen, *files)
    assert " passed" in output


def supported_isas() -> tuple[str, ...]:
    """Instruction sets of this machine: all up to the one that the device chooses by itself."""
    code = "from npu_runtime._native import Device; print(Device('cpu').name)"
    environment = {"NPU_SIM_CPU_ISA": ""}
    name = run_python(environment, "-c", code)
    best = name[name.rindex("(") + 1 : name.rindex(")")]
    return ISAS[: ISAS.index(best) + 1]


def test_many_threads_may_run_one_executable() -> None:
    rng = np.random.default_rng(0)
    x, w = normal(rng, (1, 37, 200), np.float16), normal(rng, (1, 90, 200), np.float16)
    y = np.zeros((1, 37, 90), np.float16)
    gemm = SingleDispatch("gemm", {"x": x, "w": w, "y": y}, NO_CLAMP, weights=("w",))
    a = rng.standard_normal(200_000).astype(np.float32)
    code = [load(0, 0), op("tanh_f", 1, 0), op("mul_f", 1, 1, 0), store(0, 1)]
    tanh = elementwise(code, [a], [np.zeros_like(a)])
    rows = normal(rng, (1, 1, 300, 99), np.float32)
    softmax = SingleDispatch("softmax", {"x": rows, "y": np.zeros_like(rows)}, {"log": 0})
    jobs = [gemm, tanh, softmax]
    want = [job.run()[0].tobytes() for job in jobs]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda i: (i % 3, jobs[i % 3].run()[0].tobytes()), range(60)))
    assert all(result == want[job] for job, result in results)


@pytest.mark.parametrize(
    "code",
    [
        [load(0, 1), store(0, 0)],
        [op("add_f", 0, 3, 4), store(0, 0)],
        [load(0, 0), Instruction(200, 1, 0), store(0, 1)],
        [load(40, 0), store(0, 40)],
        [load(0, 0), store(1, 0)],
    ],
    ids=["absent_input", "unwritten", "unknown_operation", "no_register", "absent_output"],
)
def test_damaged_elementwise_programs_are_refused(code: list[Instruction]) -> None:
    x = np.zeros(4, np.float32)
    with pytest.raises(ProgramError, match=r"elementwise.*instruction \d"):
        elementwise(code, [x], [np.zeros_like(x)])


def agree(kernel: str, operands: dict[str, Array | None], fields: Any, output: str) -> None:
    """The cpu and the reference device may differ by one rounding of the storage type."""
    results = []
    for kind in ("cpu", "reference"):
        block = SingleDispatch(kernel, operands, fields, kind=kind).run()[0]
        array = operands[output]
        assert array is not None
        results.append(block.view(array.dtype).astype(np.float64))
    cpu, reference = results
    roundoff = 2.0 ** -{2: 8, 4: 20}[operands[output].itemsize]  # type: ignore[union-attr]
    np.testing.assert_allclose(cpu, reference, rtol=roundoff, atol=1e-5)


@pytest.mark.parametrize("short", FLOATS)
@pytest.mark.parametrize(
    "kernel", ["conv2d", "gemm", "max_pool2d", "softmax", "reduce", "elementwise"]
)
def test_agrees_with_the_reference_device(short: str, kernel: str) -> None:
    assert device("reference").kind == "reference"
    rng = np.random.default_rng(0)
    dtype = FLOATS[short]
    image = np.ascontiguousarray(normal(rng, (1, 9, 7, 64), dtype)).transpose(0, 3, 1, 2)
    rows = normal(rng, (1, 2, 6, 70), dtype)
    y: dict[str, Array] = {}
    match kernel:
        case "conv2d":
            w = normal(rng, (32, 3, 3, 64), dtype)
            y["y"] = np.zeros((1, 32, 9, 7), dtype)
            ones = ("stride_h", "stride_w", "pad_top", "pad_left", "dilation_h", "dilation_w")
            fields: Any = dict.fromkeys((*ones, "groups"), 1)
            agree(kernel, {"x": image, "w": w, **y}, fields | NO_CLAMP, "y")
        case "gemm":
            y["y"] = np.zeros((2, 6, 6), dtype)
            agree(kernel, {"x": rows[0].copy(), "w": rows[0].copy(), **y}, NO_CLAMP, "y")
        case "max_pool2d":
            y["y"] = np.zeros((1, 64, 4, 3), dtype)
            fields = {"kh": 3, "kw": 3, "stride_h": 2, "stride_w": 2, "pad_h": 0, "pad_w": 0}
            agree(kernel, {"x": image, **y}, fields | {"dilation_h": 1, "dilation_w": 1}, "y")
        case "softmax":
            y["y"] = np.zeros_like(rows)
            agree(kernel, {"x": place(rng, rows), **y}, {"log": 1}, "y")
        case "reduce":
            y["y"] = np.zeros((1, 2, 6), dtype)
            agree(kernel, {"x": place(rng, rows)[..., None], **y}, {"op": 1}, "y")
        case "elementwise":
            code = [
                load(0, 0),
                op("erf_f", 1, 0),
                constant(2, 0.5),
                op("mul_f", 1, 1, 2),
                store(0, 1),
            ]
            blocks = [
                elementwise(code, [rows], [np.zeros_like(rows)], kind).run()[0].view(dtype)
                for kind in ("cpu", "reference")
            ]
            np.testing.assert_allclose(
                *(b.astype(np.float64) for b in blocks), rtol=2.0**-7, atol=1e-6
            )
