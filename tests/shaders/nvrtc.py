"""NVRTC through ctypes: compiles CUDA texts without a GPU, a driver or CUDA's headers."""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache
from pathlib import Path

MISSING = "NVRTC is missing: pip install nvidia-cuda-nvrtc (Linux)"


@cache
def nvrtc() -> ctypes.CDLL | None:
    """NVRTC from the nvidia-cuda-nvrtc package (PyTorch with CUDA brings it), or None."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        found = sorted(Path(folder).glob("*/lib/libnvrtc.so.*"))
        if found:
            return ctypes.CDLL(str(found[0]))
    return None


def compile_cuda(text: str, architecture: str) -> tuple[bytes, str]:
    """What a text compiles to, and the compiler's log: PTX for an architecture ``compute_*``,
    machine code for ``sm_*``, nothing where it does not compile.

    Raises RuntimeError where NVRTC is missing.
    """
    library = nvrtc()
    if library is None:
        raise RuntimeError(MISSING)
    program = ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"shader.cu", 0, None, None)
    options = [f"--gpu-architecture={architecture}".encode(), b"--std=c++17"]
    status = library.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*options)
    )

    def get(what: str) -> bytes:
        size = ctypes.c_size_t()
        getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        out = ctypes.create_string_buffer(size.value)
        getattr(library, f"nvrtcGet{what}")(program, out)
        return out.raw

    try:
        code = b""
        if status == 0:
            code = get("CUBIN") if architecture.startswith("sm_") else get("PTX")
        return code, get("ProgramLog").rstrip(b"\0").decode()
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
