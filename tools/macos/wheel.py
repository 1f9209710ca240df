"""The macOS arm64 wheel, built on Linux: ``python -m tools.macos.wheel [--out dist]``.

Needs the Python packages of `make venv`, ziglang (pinned in constraints.txt) and LLVM's ld64.lld 16
or newer (Debian: package lld-16; or environment variable LD64_LLD). Built for the Python version
that runs this.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from tools.macos.stubs import write_stubs

ROOT = Path(__file__).resolve().parent.parent.parent
# The oldest macOS that the wheel runs on: file name, load commands and compiler go by this.
MINIMUM_MACOS = "13.0"
WORK = ROOT / "build" / "macos"
LINKERS = ("ld64.lld", *(f"ld64.lld-{version}" for version in range(25, 15, -1)))


class ToolMissing(RuntimeError):
    """The wheel cannot be built here; the message names what is missing and how to get it."""


def linker() -> str:
    """The path of ld64.lld. Raises ToolMissing."""
    if sys.platform != "linux":
        raise ToolMissing("the cross build is for Linux; on a Mac, `pip wheel .` builds the wheel")
    given = os.environ.get("LD64_LLD")
    found = [given] if given else [path for name in LINKERS if (path := shutil.which(name))]
    if not found or shutil.which(found[0]) is None:
        raise ToolMissing(
            f"no linker for macOS: {given or 'ld64.lld'} is not there. Install LLVM's lld 16 or "
            "newer (Debian: apt-get install lld-16), or set LD64_LLD to its path"
        )
    return found[0]


def prepare(folder: Path) -> None:
    """Fill ``folder`` with what the toolchain file expects: bin/ and stubs/. Raises ToolMissing."""
    if importlib.util.find_spec("ziglang") is None:
        raise ToolMissing("no compiler for macOS: pip install -c constraints.txt ziglang")
    write_stubs(folder / "stubs")
    script = Path(__file__).with_name("zig_compiler.py")
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    for tool in ("c++", "ar", "ranlib"):
        program = folder / "bin" / tool
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" {tool} "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)


def build(out: Path, work: Path = WORK, *, quick: bool = False) -> Path:
    """Build the wheel into ``out``, incrementally in ``work``; its path.

    ``quick``: without optimisation, in a fifth of the time; the same sources, link and contents.
    Raises ToolMissing, and RuntimeError with the compiler's output when the build fails.
    """
    version = f"{sys.version_info.major}{sys.version_info.minor}"
    environment = os.environ | {
        "LD64_LLD": linker(),
        "MACOSX_DEPLOYMENT_TARGET": MINIMUM_MACOS,
        "NPU_SIM_MACOS_DIR": str(work),
        # The names that the wheel and the module in it carry.
        "_PYTHON_HOST_PLATFORM": f"macosx-{MINIMUM_MACOS}-arm64",
        "SETUPTOOLS_EXT_SUFFIX": f".cpython-{version}-darwin.so",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    options = []
    if quick:
        environment["NPU_SIM_MACOS_QUICK"] = "1"
        options = ["-C", "cmake.define.NPU_SIM_PRECOMPILE=ON"]
    prepare(work)
    fresh = work / "wheel"
    shutil.rmtree(fresh, ignore_errors=True)
    command = [
        *(sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check"),
        *("--no-build-isolation", "--no-deps", "--wheel-dir", str(fresh)),
        *("-C", f"build-dir={work / 'build'}"),
        *("-C", f"cmake.define.CMAKE_TOOLCHAIN_FILE={ROOT / 'cmake' / 'macos-arm64-zig.cmake'}"),
        *("-C", f"cmake.define.Python_EXECUTABLE={sys.executable}"),
        *options,
        str(ROOT),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the macOS wheel failed to build:\n{done.stdout}\n{done.stderr}")
    [wheel] = fresh.glob("*.whl")
    out.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(wheel, out / wheel.name))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the wheel")
    try:
        print(build(parser.parse_args().out))
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
