"""Front-end check of every shader with real address spaces: clang's C++ for OpenCL 2021 mode.

Metal's address spaces are OpenCL's under other names, so what mixes device, threadgroup, constant
and thread memory fails here as it would on a Mac. clang comes from the PATH or with the ziglang
package.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.shaders.texts import ENTRIES, shader_text

CLANGS = ("clang", *(f"clang-{version}" for version in range(22, 13, -1)))
FLAGS = (
    *("-cc1", "-triple", "spir64-unknown-unknown", "-x", "clcpp", "-cl-std=clc++2021"),
    *("-fsyntax-only", "-Wall", "-Wextra", "-Werror"),
)


@cache
def front_end() -> tuple[str, ...] | None:
    """The command that runs clang's front end, or None."""
    for name in CLANGS:
        found = shutil.which(name)
        if found is not None and _works((found,)):
            return (found,)
    zig = (sys.executable, "-m", "ziglang", "clang")
    return zig if importlib.util.find_spec("ziglang") is not None and _works(zig) else None


def _works(command: tuple[str, ...]) -> bool:
    done = subprocess.run([*command, *FLAGS, "-"], input="", capture_output=True, text=True)
    return done.returncode == 0


def check(tmp_path: Path, text: str) -> str:
    """What the front end says of ``text``; empty where it accepts it."""
    command = front_end()
    if command is None:
        pytest.skip("no clang of version 14 or later on the PATH and no ziglang package")
    path = tmp_path / "shader.clcpp"
    path.write_text(text)
    done = subprocess.run([*command, *FLAGS, str(path)], capture_output=True, text=True)
    assert (done.returncode == 0) == (done.stderr == "")
    return done.stderr


@pytest.mark.parametrize("shader", ENTRIES)
def test_shader_passes(tmp_path: Path, shader: str) -> None:
    assert check(tmp_path, shader_text(shader, "clcpp")) == ""


FAULTS = {
    # A device pointer where the body wants threadgroup memory.
    "device for threadgroup": (r"\bx_tile\[at\] = ", "THREADGROUP_PTR(const T) q = x; (void)q; "),
    # A threadgroup pointer without its qualifier.
    "threadgroup as device": (r"\bw_tile\[at\] = ", "DEVICE_PTR(npu_f32) q = w_tile; (void)q; "),
    # A store through what the record only reads.
    "store to an input": (r"\bx_tile\[at\] = ", "x[0] = npu_narrow<T>(0.0f); "),
    # Parameters live in constant memory.
    "constant as thread": (r"\bx_tile\[at\] = ", "THREAD_REF(Conv2dParams) q = p; (void)q; "),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_caught(tmp_path: Path, fault: str) -> None:
    pattern, statement = FAULTS[fault]
    text = shader_text("conv2d.metal", "clcpp")
    place = re.search(pattern, text)
    assert place is not None
    faulty = text[: place.start()] + statement + text[place.start() :]
    message = check(tmp_path, faulty)
    assert "error:" in message
    assert "shaders/conv2d.metal:" in message
