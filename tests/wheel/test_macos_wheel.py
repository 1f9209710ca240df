"""The macOS wheel that `make wheel-macos` built on Linux, inspected: what a Mac's loader would see.

A build from nothing takes minutes, so these tests look at the wheel in dist/ and skip where there
is none.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from tests.wheel import macho
from tools.macos.stubs import libraries

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "/usr/lib/libSystem.B.dylib"


@pytest.fixture(scope="module")
def wheel() -> zipfile.ZipFile:
    built = sorted(ROOT.glob("dist/npu_sim-*-macosx_13_0_arm64.whl"))
    if not built:
        pytest.skip("no macOS wheel in dist/: make wheel-macos (zig and ld64.lld 16) builds it")
    return zipfile.ZipFile(max(built, key=lambda path: path.stat().st_mtime))


@pytest.fixture(scope="module")
def module_name(wheel: zipfile.ZipFile) -> str:
    [name] = [n for n in wheel.namelist() if n.endswith(".so")]
    return name


@pytest.fixture(scope="module")
def module(wheel: zipfile.ZipFile, module_name: str) -> macho.MachO:
    return macho.read(wheel.read(module_name))


def test_the_wheel_and_its_module_are_named_for_macos(
    wheel: zipfile.ZipFile, module_name: str
) -> None:
    assert re.fullmatch(r"npu_runtime/_native\.cpython-3\d+-darwin\.so", module_name)
    [tags] = [n for n in wheel.namelist() if n.endswith(".dist-info/WHEEL")]
    assert re.search(r"^Tag: cp3\d+-cp3\d+-macosx_13_0_arm64$", wheel.read(tags).decode(), re.M)


def test_it_carries_stubs_and_shaders(wheel: zipfile.ZipFile, module_name: str) -> None:
    names = set(wheel.namelist())
    assert {"npu_runtime/_native.pyi", "npu_runtime/py.typed", "npu_sim/__init__.py"} <= names
    shaders = [n for n in names if re.fullmatch(r"npu_runtime/shaders/.*\.metal", n)]
    assert len(shaders) > 10
    # The device compiles the texts that the module itself carries.
    assert b"MTLCreateSystemDefaultDevice" in wheel.read(module_name)
    assert b"#include <metal_stdlib>" in wheel.read(module_name)


def test_module_is_a_signed_bundle_for_macos_13(module: macho.MachO) -> None:
    assert (module.file_type, module.platform) == (macho.BUNDLE, macho.PLATFORM_MACOS)
    assert module.minimum_os == (13, 0)
    assert module.signed  # arm64 Macs refuse code without a signature, if only an ad-hoc one


def test_module_needs_the_systems_libraries_only_and_exports_its_entry(module: macho.MachO) -> None:
    assert set(module.libraries) == {SYSTEM, *(library.path for library in libraries())}
    assert module.exports == ["_PyInit__native"]


def test_every_import_is_known_and_every_listed_symbol_is_used(module: macho.MachO) -> None:
    for library in libraries():
        used = {i.name for i in module.imports if i.library == library.path}
        assert used == set(library.symbols), library.path
    from_process = [i.name for i in module.imports if i.library is None]
    assert from_process and all(re.match(r"__?Py", name) for name in from_process)


def test_constants_newer_than_macos_13_are_weak(module: macho.MachO) -> None:
    """A strong import of a symbol that macOS 13 lacks would keep the module from loading there."""
    newer = {"_MTLLogStateErrorDomain", "_MTLTensorDomain"}
    assert {i.name for i in module.imports if i.weak} >= newer
