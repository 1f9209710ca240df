"""Builds the C++ test programs for pytest: once per configuration, incrementally, under build/."""

from __future__ import annotations

import fcntl
import functools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def building(folder: Path) -> Iterator[None]:
    """Holds a build folder, so that test processes side by side build one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@functools.cache
def native_program(target: str, *, sanitize: bool = False) -> Path:
    """The path of the built ``target``; ``sanitize``: with address and undefined-behaviour checks.

    Raises RuntimeError with the compiler's output when the build fails.
    """
    build = ROOT / "build" / ("tests-asan" if sanitize else "tests")
    bin_dir = Path(sys.executable).parent
    cmake = str(bin_dir / "cmake")
    configure = [
        cmake,
        "-G",
        "Ninja",
        f"-DCMAKE_MAKE_PROGRAM={bin_dir / 'ninja'}",
        f"-DPython_EXECUTABLE={sys.executable}",
        "-DNPU_SIM_PYTHON=OFF",
        "-DNPU_SIM_BUILD_TESTS=ON",
        "-DNPU_SIM_WERROR=ON",
        f"-DNPU_SIM_SANITIZE={'ON' if sanitize else 'OFF'}",
        "-DCMAKE_BUILD_TYPE=Release",
        # Sanitizers make of -O3 minutes of compiling; -O1 keeps the kernels fast enough to run.
        *(("-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG",) if sanitize else ()),
        "-S",
        str(ROOT),
        "-B",
        str(build),
    ]
    with building(build):
        for command in (configure, [cmake, "--build", str(build), "--target", target]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return next(p for p in build.rglob(target) if p.is_file())
