"""zig as CMake's compiler for macOS arm64: ``zig_compiler.py cc|c++|ar|ranlib ARGUMENT...``.

Compiles with zig's clang; links Python modules with LLVM's ld64.lld (environment variable
LD64_LLD), which rejects every symbol that no library and no option accounts for (zig's own
linker does not).
Environment: MACOSX_DEPLOYMENT_TARGET, the oldest macOS to run on; NPU_SIM_MACOS_QUICK, not empty:
compile without optimisation, whatever the command line says.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import ziglang

ZIG = str(Path(ziglang.__file__).with_name("zig"))
# CMake says these for Apple's own compiler; the target triple says the same.
WITH_VALUE = ("-arch", "-isysroot")
# Words for the compiler on a link line, the first with a value of their own.
COMPILING_WITH_VALUE = ("-idirafter", "-isystem")
COMPILING = ("-O", "-std", "-f", "-m", "-D", "-I", "-W", "-g")
# zig takes -O0 for a debug build with sanitizers, so that word goes to its clang alone.
UNOPTIMISED = ("-O1", "-Xclang", "-O0")
# Exported from a module: what Python looks for, no more.
EXPORTED = "_PyInit_*"


def compiler_words(arguments: list[str]) -> list[str]:
    """``arguments`` without what Apple's clang alone understands."""
    words = iter(arguments)
    kept = []
    for word in words:
        if word in WITH_VALUE:
            next(words, None)
        elif not word.startswith("-mmacosx-version-min"):
            kept.append(word)
    return kept


def linker_words(arguments: list[str]) -> list[str]:
    """``arguments`` of a compiler that links, as the linker itself takes them."""
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word in COMPILING_WITH_VALUE:
            next(rest, None)
        elif word.startswith("-Wl,"):
            words += word[4:].split(",")
        elif word == "-framework" or not word.startswith(COMPILING):
            words.append(word)
    return words


def runtime_libraries(driver: str, target: str) -> list[str]:
    """The static libc++, libc++abi and compiler-rt that zig builds once and keeps in its cache."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "empty.cpp").write_text("int main() {}\n", encoding="utf-8")
        command = [ZIG, driver, "-target", target, "-O2", "-v", "empty.cpp", "-o", "empty"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("zig ld")]
    if done.returncode != 0 or not lines:
        sys.exit(f"zig cannot build its C++ library for {target}:\n{done.stderr}")
    return re.findall(r"\S+/lib(?:c\+\+|c\+\+abi|compiler_rt)\.a", lines[-1])


def link(driver: str, minimum: str, arguments: list[str]) -> int:
    """Link one Python module (a Mach-O bundle); the linker's exit status."""
    command = [
        *(os.environ["LD64_LLD"], "-arch", "arm64", "-platform_version", "macos", minimum, minimum),
        *("-adhoc_codesign", "-exported_symbol", EXPORTED, *linker_words(arguments)),
        *runtime_libraries(driver, f"aarch64-macos.{minimum}"),
        "-lSystem",
    ]
    status = subprocess.run(command, check=False).returncode
    if status != 0:
        print(
            "what a library of macOS may be asked for is listed in tools/macos/symbols.toml",
            file=sys.stderr,
        )
    return status


def main() -> int:
    """Command line."""
    tool, arguments = sys.argv[1], sys.argv[2:]
    if tool in ("ar", "ranlib"):
        return subprocess.run([ZIG, tool, *arguments], check=False).returncode
    minimum = os.environ["MACOSX_DEPLOYMENT_TARGET"]
    words = compiler_words(arguments)
    if "-bundle" in words:
        return link(tool, minimum, words)
    if os.environ.get("NPU_SIM_MACOS_QUICK"):
        words = [*UNOPTIMISED, *(word for word in words if not word.startswith("-O"))]
    target = f"aarch64-macos.{minimum}"
    return subprocess.run([ZIG, tool, "-target", target, *words], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
