"""Every shader compiles with NVRTC, without a GPU or CUDA headers, and has its entry points."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest

from tests.shaders.texts import ENTRIES, shader_text

ARCHITECTURES = ("compute_80", "compute_90")


@cache
def nvrtc() -> ctypes.CDLL | None:
    """NVRTC from the nvidia-cuda-nvrtc package, or None."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        found = sorted(Path(folder).glob("*/lib/libnvrtc.so.*"))
        if found:
            return ctypes.CDLL(str(found[0]))
    return None


def compile_cuda(text: str, architecture: str) -> tuple[str, str]:
    """PTX and log of a CUDA text; the PTX is empty where it does not compile."""
    library = nvrtc()
    if library is None:
        pytest.skip("NVRTC is missing: pip install nvidia-cuda-nvrtc (Linux)")
    program = ctypes.c_void_p()
    created = library.nvrtcCreateProgram(
        ctypes.byref(program), text.encode(), b"shader.cu", 0, None, None
    )
    assert created == 0
    options = [f"--gpu-architecture={architecture}".encode(), b"--std=c++17"]
    status = library.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*options)
    )

    def get(what: str) -> str:
        size = ctypes.c_size_t()
        getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        out = ctypes.create_string_buffer(size.value)
        getattr(library, f"nvrtcGet{what}")(program, out)
        return out.value.decode()

    try:
        return (get("PTX") if status == 0 else ""), get("ProgramLog")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shader", ENTRIES)
def test_shader_compiles(shader: str, architecture: str) -> None:
    ptx, log = compile_cuda(shader_text(shader, "cuda"), architecture)
    assert log == ""
    assert f".target sm_{architecture.removeprefix('compute_')}" in ptx
    assert sorted(re.findall(r"\.entry (\w+)", ptx)) == sorted(ENTRIES[shader])


def test_error_names_the_shader_and_its_line() -> None:
    text = shader_text("softmax.metal", "cuda").replace("npu_log(sum)", "npu_log(amount)")
    ptx, log = compile_cuda(text, ARCHITECTURES[0])
    assert ptx == ""
    source = Path(__file__).parents[2] / "shaders" / "softmax.metal"
    line = source.read_text().splitlines().index("  const npu_f32 log_sum = npu_log(sum);") + 1
    assert f'shaders/softmax.metal({line}): error: identifier "amount" is undefined' in log
