"""Builds the stand-in (clang or zig), opens it as the device "metal" and asks what it found."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from npu_runtime import _native
from npu_runtime.device import Device
from tests.native_build import building

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "metal-standin"
VARIABLE = "NPU_SIM_METAL_STANDIN"
CLANGS = ("clang++", *(f"clang++-{version}" for version in range(22, 15, -1)))


class Missing(RuntimeError):
    """This machine cannot build the stand-in; the message says what it lacks."""


def _compiler() -> Path:
    """A clang that finds libstdc++, as one command. Raises Missing."""
    for name in CLANGS:
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    spec = importlib.util.find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations:
        raise Missing("neither clang++ 16 or later nor the ziglang package is installed")
    zig = Path(spec.submodule_search_locations[0])
    # zig's clang as it is, not zig's own driver: that one brings another C++ library.
    script = BUILD / "clang++"
    script.parent.mkdir(parents=True, exist_ok=True)
    text = (
        f'#!/bin/sh\nexec "{zig}/zig" clang --driver-mode=g++ --target=x86_64-linux-gnu '
        f'-isystem "{zig}/lib/include" "$@"\n'
    )
    if not script.is_file() or script.read_text() != text:
        script.write_text(text)
        script.chmod(0o755)
    return script


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")


@functools.cache
def built(target: str) -> Path:
    """The path of a target of the stand-in's build, brought up to date.

    Raises Missing where the machine cannot build it, RuntimeError where the build fails.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Missing("the stand-in is for Linux on x86-64")
    with building(BUILD):
        return _build(target)


def _build(target: str) -> Path:
    compiler = _compiler()
    # A folder for each compiler: CMake forgets its settings where the compiler changes.
    folder = BUILD / ("zig" if compiler.is_relative_to(BUILD) else compiler.name)
    tools = Path(sys.executable).parent
    configure = [
        *(str(tools / "cmake"), "-G", "Ninja", "-S", str(ROOT), "-B", str(folder)),
        f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}",
        f"-DCMAKE_CXX_COMPILER={compiler}",
        # libstdc++ 12 uses what it deprecates.
        "-DCMAKE_CXX_FLAGS=-Wno-deprecated-declarations",
        f"-DPython_EXECUTABLE={sys.executable}",
        *("-DNPU_SIM_PYTHON=OFF", "-DNPU_SIM_METAL_STANDIN=ON", "-DNPU_SIM_WERROR=ON"),
        "-DNPU_SIM_PRECOMPILE=ON",
    ]
    _run(configure)
    _run([str(tools / "cmake"), "--build", str(folder), "--target", target])
    return next(p for p in folder.rglob(f"*{target}*") if p.is_file() and p.suffix in ("", ".so"))


class Standin:
    """The loaded library."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        for name in ("take_findings", "set", "live_objects", "bind_host_memory"):
            getattr(self._library, f"npu_standin_{name}").restype = ctypes.c_char_p
        self._library.npu_standin_leave_out.restype = ctypes.c_bool
        self._library.npu_standin_leave_out.argtypes = (ctypes.c_char_p, ctypes.c_int64)
        self._library.npu_standin_bind_host_memory.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
        self._library.npu_standin_messages.restype = ctypes.c_uint64
        self._library.npu_standin_compilations.restype = ctypes.c_uint64

    def device(self) -> Device:
        """A device of its own, not the one that ``Device("metal")`` shares."""
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = str(self.path)
        try:
            device = object.__new__(Device)
            device._native = _native.Device("metal")
            return device
        finally:
            os.environ.pop(VARIABLE)
            if before is not None:
                os.environ[VARIABLE] = before

    def take_findings(self) -> list[str]:
        """What was wrong with the use of Metal since the last call."""
        return self._library.npu_standin_take_findings().decode().splitlines()

    def set(self, **settings: object) -> None:
        """Change what the stand-in is (settings.hpp). Raises ValueError for an unknown one."""
        for key, value in settings.items():
            problem = self._library.npu_standin_set(key.encode(), str(value).encode())
            if problem:
                raise ValueError(problem.decode())

    def leave_out(self, message: str, number: int = 0) -> None:
        """Do nothing for the ``number``-th message (0: all) such as ``MTLCommandBuffer commit``."""
        if not self._library.npu_standin_leave_out(message.encode(), number):
            raise ValueError(f"the stand-in has no method {message}")

    def messages(self, message: str) -> int:
        """How often a message was sent since the last reset."""
        return self._library.npu_standin_messages(message.encode())

    def compilations(self) -> int:
        """How many pipelines were compiled, not found in an archive, since the last reset."""
        return self._library.npu_standin_compilations()

    def reset(self) -> None:
        """Undo ``set`` and ``leave_out``; message counts begin anew."""
        self._library.npu_standin_set(b"", b"")

    def bind_host_memory(self, program: bytes) -> str:
        """What an executable says of weights that lie on another device; empty: it takes them."""
        return self._library.npu_standin_bind_host_memory(program, len(program)).decode()

    def live_objects(self) -> dict[str, int]:
        """Number of objects by class, without classes that have none."""
        lines = self._library.npu_standin_live_objects().decode().splitlines()
        return {name: int(count) for name, count in (line.split() for line in lines)}

    @contextmanager
    def changed(self, **settings: object) -> Iterator[None]:
        """Settings for the length of a block."""
        self.set(**settings)
        try:
            yield
        finally:
            self.reset()


@functools.cache
def load() -> Standin:
    """The stand-in that the environment names, or a new build. Raises Missing."""
    given = os.environ.get(VARIABLE)
    return Standin(Path(given) if given else built("npu_metal_standin"))
