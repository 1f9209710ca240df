"""Generated kernels of elementwise programs: they compile everywhere, and compute bit by bit what
the interpreter does.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from npu_compiler.kernels import KERNELS
from npu_compiler.kernels.scalar_ops import (
    CONSTANT,
    LOAD,
    SCALAR_OPS,
    STORE,
    Instruction,
)
from tests.native_build import ROOT, native_program
from tests.reference.layouts import Array
from tests.reference.native_library import View, call, run_kernel, view_of
from tests.reference.random_elementwise import RandomProgram, random_program
from tests.shaders import nvrtc
from tests.shaders.test_shader_front_end import check
from tests.shaders.texts import generator

ELEMENTWISE = KERNELS["elementwise"]
PROGRAMS = 40
_LONGEST = 1 << 16


@dataclass
class Case:
    """A program, the kernel made of it, and the elements that a thread does."""

    program: RandomProgram
    name: str
    text: str
    lanes: int


def case_of(program: RandomProgram, name: str) -> Case:
    """What the generator makes of a program."""
    text = ctypes.create_string_buffer(_LONGEST)
    lanes = ctypes.c_uint32()
    arguments = (*dispatch(program, program.outputs), text, _LONGEST, ctypes.byref(lanes))
    call("npu_test_elementwise_source", name.encode(), *arguments)
    return Case(program, name, text.value.decode(), lanes.value)


def dispatch(program: RandomProgram, outputs: list[Array]) -> tuple[ctypes.Array[View], bytes]:
    """Operands and fields as the native library takes them."""
    arrays = program.operands(outputs)
    views = (View * len(ELEMENTWISE.operands))(
        *(view_of(arrays.get(o.name)) for o in ELEMENTWISE.operands)
    )
    return views, ELEMENTWISE.pack_fields(program.fields())


@cache
def cases() -> tuple[Case, ...]:
    """Random programs that together have every operation."""
    return tuple(
        case_of(random_program(k, list(SCALAR_OPS[k::PROGRAMS])), f"elementwise_{k}")
        for k in range(PROGRAMS)
    )


def text_of(compiler: str) -> str:
    """All kernels as one text for a compiler."""
    head, entry = generator().elementwise_parts(compiler)
    kernels = [case.text + entry.replace("@", case.name) for case in cases()]
    return "\n".join([generator().prelude(compiler), head, *kernels])


def test_every_operation_and_both_widths_are_there() -> None:
    found = {int(i.op) for case in cases() for i in case.program.code}
    assert found >= {op.id for op in SCALAR_OPS}
    widths = [case.lanes for case in cases()]
    assert min(widths.count(1), widths.count(4)) >= 10


def test_clang_takes_them(tmp_path: Path) -> None:
    # What a program computes and does not store is none of the generator's business.
    quiet = '#pragma clang diagnostic ignored "-Wunused-variable"\n'
    assert check(tmp_path, quiet + text_of("clcpp")) == ""


@pytest.mark.skipif(nvrtc.nvrtc() is None, reason=nvrtc.MISSING)
def test_nvrtc_takes_them() -> None:
    ptx, log = nvrtc.compile_cuda(text_of("cuda"), "compute_80")
    assert "error" not in log
    assert sorted(re.findall(r"\.entry (\w+)", ptx.decode())) == sorted(
        case.name for case in cases()
    )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """All kernels, compiled for the host."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler for the host")
    build = native_program("npu_reference_test").parents[3]
    (entry,) = generator().variants(ELEMENTWISE)
    entry_text = generator().host_entry(entry)
    bodies = [
        case.text
        + entry_text.replace("void elementwise(", f'extern "C" void {case.name}(').replace(
            "npu_elementwise(", f"npu_{case.name}("
        )
        for case in cases()
    ]
    folder = tmp_path_factory.mktemp("generated")
    source, library = folder / "generated.cpp", folder / "generated.so"
    head = '#include "npu_scalar_ops.h"\n#include "reference/dialect.hpp"\n'
    head += '#include "reference/shader_table.hpp"\nnamespace npu::reference {\n'
    head += '#include "elementwise_program.h"\n'
    source.write_text("\n".join([head, *bodies, "}  // namespace npu::reference\n"]))
    includes = [ROOT / "cpp", ROOT / "shaders", build / "generated"]
    archives = [next(build.rglob(f"lib{n}.a")) for n in ("npu_reference", "npu_runtime_core")]
    done = subprocess.run(
        [
            *(compiler, "-std=c++20", "-O1", "-ffp-contract=off", "-fPIC", "-shared"),
            *(f"-I{folder}" for folder in includes),
            *(str(source), "-o", str(library), *map(str, archives), "-lpthread"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


def bits(array: Array) -> Array:
    """What is in memory; every NaN counts as the same."""
    numbers = np.ascontiguousarray(array)
    if array.dtype.kind in "fV":
        numbers = np.where(np.isnan(numbers), numbers.dtype.type(np.nan), numbers)
    return numbers.view(np.uint8)


@pytest.mark.parametrize("number", range(PROGRAMS))
def test_same_bits_as_the_interpreter(compiled: ctypes.CDLL, number: int) -> None:
    case = cases()[number]
    want = [like(a) for a in case.program.outputs]
    run_kernel(ELEMENTWISE, case.program.operands(want), case.program.fields())
    got = [like(a) for a in case.program.outputs]
    views, fields = dispatch(case.program, got)
    call("npu_test_run_function", getattr(compiled, case.name), views, fields, case.lanes)
    for a, b in zip(got, want, strict=True):
        assert np.array_equal(bits(a), bits(b)), case.text


def like(array: Array) -> Array:
    """Memory of the same strides."""
    return np.lib.stride_tricks.as_strided(
        np.zeros_like(array.base if array.base is not None else array), array.shape, array.strides
    )


def copy_program(
    shape: tuple[int, ...], dtype: type, code: list[Instruction] | None
) -> RandomProgram:
    x = np.zeros((1,) * (6 - len(shape)) + shape, dtype)
    return RandomProgram(
        code or [Instruction(LOAD, 0, 0), Instruction(STORE, 0, 0)], [x], [x.copy()]
    )


def test_when_four_elements_go_together() -> None:
    def lanes(program: RandomProgram) -> int:
        return case_of(program, "some").lanes

    assert lanes(copy_program((3, 8), np.float32, None)) == 4
    assert lanes(copy_program((3, 7), np.float32, None)) == 1
    # In place, a load behind a store sees what was stored.
    code = [Instruction(LOAD, 0, 0), Instruction(STORE, 0, 0), Instruction(LOAD, 1, 0)]
    assert lanes(copy_program((8,), np.float32, code)) == 1
    # Rows that begin anywhere.
    gaps = copy_program((3, 8), np.float32, None)
    gaps.inputs = [np.zeros((1, 1, 1, 1, 3, 9), np.float32)[..., :8]]
    assert lanes(gaps) == 1
    gaps.inputs = [np.zeros((1, 1, 1, 1, 3, 12), np.float32)[..., :8]]
    assert lanes(gaps) == 4
    # One element for a row.
    gaps.inputs = [np.broadcast_to(np.zeros((1, 1, 1, 1, 3, 1), np.float32), (1, 1, 1, 1, 3, 8))]
    assert lanes(gaps) == 4


def test_equal_programs_have_equal_texts() -> None:
    double = [Instruction(LOAD, 0, 0), Instruction(CONSTANT, 1, immediate=0x40000000)]
    double += [Instruction(5, 2, 0, 1), Instruction(STORE, 0, 2)]
    a = case_of(copy_program((3, 8), np.float32, double), "same")
    b = case_of(copy_program((5, 2, 4), np.float32, double), "same")
    assert a.text == b.text
    assert a.text != case_of(copy_program((3, 8), np.float16, double), "same").text
    assert "npu_op_mul_f(r0_4.v[j], npu_as_f32(0x40000000u))" not in a.text
    assert "npu_op_mul_f(r0, npu_as_f32(0x40000000u))" in a.text
