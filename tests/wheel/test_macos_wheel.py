"""The macOS wheel, built on Linux and inspected; and that the inspection notices what is wrong.

Looked at is the wheel in dist/ (`make wheel-macos`) where it is newer than all that it is made of,
else one that is built here without optimisation.
"""

from __future__ import annotations

import dataclasses
import io
import struct
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.native_build import building
from tests.wheel import inspection, macho
from tools.macos import stubs, wheel

ROOT = Path(__file__).resolve().parents[2]
QUICK = ROOT / "build" / "macos-quick"
SOURCES = ("cmake", "cpp", "python", "shaders", "tools", "CMakeLists.txt", "pyproject.toml")
# From nothing, with zig's C++ library, on a busy machine of two cores.
pytestmark = pytest.mark.timeout(900)


def newest_source() -> float:
    """When a file that goes into the wheel was last changed."""
    files = (f for name in SOURCES for f in (ROOT / name, *(ROOT / name).rglob("*")))
    return max(f.stat().st_mtime for f in files if f.is_file() and "__pycache__" not in f.parts)


def up_to_date() -> Path | None:
    """The wheel in dist/, where it is of these sources."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    built = (ROOT / "dist").glob(f"npu_sim-{project['version']}-*-macosx_13_0_arm64.whl")
    times = {path: path.stat().st_mtime for path in built}
    newest = max(times, key=lambda path: times[path], default=None)
    return newest if newest is not None and times[newest] > newest_source() else None


@pytest.fixture(scope="module")
def content() -> bytes:
    found = up_to_date()
    if found is not None:
        return found.read_bytes()
    try:
        # Read while it is held: another test process may build it again.
        with building(QUICK):
            return wheel.build(QUICK, QUICK, quick=True).read_bytes()
    except wheel.ToolMissing as reason:
        pytest.skip(f"macOS wheel: {reason}")


@pytest.fixture
def built(content: bytes) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        yield archive


def test_nothing_is_wrong_with_the_wheel(built: zipfile.ZipFile) -> None:
    assert inspection.problems(built) == []


def module_edit(edit: Callable[[bytes], bytes]) -> Callable[[str, bytes], bytes | None]:
    return lambda name, data: edit(data) if name.endswith(".so") else data


def without(file: str) -> Callable[[str, bytes], bytes | None]:
    return lambda name, data: None if name == file else data


def for_macos(major: int) -> Callable[[bytes], bytes]:
    """The load command that names the oldest macOS, changed."""
    head = struct.pack("<4I", macho.BUILD_VERSION, 32, macho.PLATFORM_MACOS, 13 << 16)
    return lambda data: data.replace(head, head[:12] + struct.pack("<I", major << 16))


DAMAGE = {
    "no py.typed": (without("npu_compiler/py.typed"), "no npu_compiler/py.typed"),
    "no type stub": (without("npu_runtime/_native.pyi"), "no npu_runtime/_native.pyi"),
    "no shader": (without("npu_runtime/shaders/gemm.metal"), "no npu_runtime/shaders/gemm.metal"),
    "shader text changed": (
        module_edit(lambda data: data.replace(b'"shaders/gemm.metal"', b'"shaders/gemm.xetal"')),
        "shader text not in the module: gemm.metal",
    ),
    "other minimum OS": (module_edit(for_macos(14)), "oldest macOS is (14, 0)"),
    "other processor": (module_edit(lambda data: data[:4] + b"\7" + data[5:]), "not a Mach-O file"),
    "unsigned": (
        module_edit(
            lambda data: data.replace(
                struct.pack("<2I", macho.CODE_SIGNATURE, 16), b"\x26\0\0\0" + b"\x10\0\0\0"
            )
        ),
        "no signature",
    ),
    "unexpected import": (
        module_edit(lambda data: data.replace(b"\0_calloc\0", b"\0_cxlloc\0")),
        "unknown import, of /usr/lib/libSystem.B.dylib: _cxlloc",
    ),
    "unexpected import of Python": (
        module_edit(lambda data: data.replace(b"\0_PyErr_Clear\0", b"\0_XyErr_Clear\0")),
        "unknown import, of the process: _XyErr_Clear",
    ),
    "other library": (
        module_edit(lambda data: data.replace(b"/libobjc.A.dylib\0", b"/libobjx.A.dylib\0")),
        "libraries differ",
    ),
    "other export": (
        module_edit(lambda data: data.replace(b"_PyInit__native\0", b"_PyInit__nativx\0")),
        "exports",
    ),
    "named for Intel": (
        lambda name, data: data.replace(b"13_0_arm64", b"13_0_x86_64"),
        "tag of another platform",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_noticed(damage: str, built: zipfile.ZipFile, tmp_path: Path) -> None:
    edit, expected = DAMAGE[damage]
    copy = tmp_path / "damaged.whl"
    with zipfile.ZipFile(copy, "w") as archive:
        for name in built.namelist():
            data = edit(name, built.read(name))
            if data is not None:
                archive.writestr(name, data)
    with zipfile.ZipFile(copy) as archive:
        assert any(problem.startswith(expected) for problem in inspection.problems(archive))


def test_a_symbol_that_is_not_listed_or_not_used_is_noticed(
    built: zipfile.ZipFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(library: stubs.Library) -> stubs.Library:
        renamed = {"_objc_msgSend": "_objc_msgSent"}
        symbols = tuple(renamed.get(name, name) for name in library.symbols)
        return dataclasses.replace(library, symbols=symbols)

    monkeypatch.setattr(
        inspection, "libraries", lambda: tuple(changed(x) for x in stubs.libraries())
    )
    path = "/usr/lib/libobjc.A.dylib"
    assert inspection.problems(built) == [
        f"unknown import, of {path}: _objc_msgSend",
        f"listed in symbols.toml, not used: _objc_msgSent of {path}",
    ]
