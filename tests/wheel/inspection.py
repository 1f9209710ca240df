"""What has to hold of a macOS wheel, read from the file alone: what a Mac's loader would see."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator

from tests.shaders.texts import ENTRIES, generator
from tests.wheel import macho
from tools.macos.stubs import Library, libraries

MINIMUM_MACOS = (13, 0)
PACKAGES = ("torch_ir", "npu_compiler", "npu_runtime", "npu_sim")
# A strong import of a symbol that macOS 13 lacks would keep the module from loading there.
NEWER_THAN_MACOS_13 = frozenset({"_MTLLogStateErrorDomain", "_MTLTensorDomain"})
MODULE = re.compile(r"npu_runtime/_native\.cpython-3\d+-darwin\.so")
TAG = re.compile(r"^Tag: cp3\d+-cp3\d+-macosx_13_0_arm64$", re.M)


def problems(wheel: zipfile.ZipFile) -> list[str]:
    """What is wrong with the wheel: one line each, none where it is as it should be."""
    names = set(wheel.namelist())
    found = [*_missing_files(names), *_tag(wheel, names)]
    modules = [name for name in names if name.endswith(".so")]
    if len(modules) != 1 or not MODULE.fullmatch(modules[0]):
        return [*found, f"native modules: {modules}"]
    data = wheel.read(modules[0])
    try:
        module = macho.read(data)
    except ValueError as error:
        return [*found, str(error)]
    return [*found, *_texts(data), *_load_commands(module), *_symbols(module)]


def _missing_files(names: set[str]) -> Iterator[str]:
    for package in PACKAGES:
        for file in ("__init__.py", "py.typed"):
            if f"{package}/{file}" not in names:
                yield f"no {package}/{file}"
    for file in ("_native.pyi", *(f"shaders/{shader}" for shader in ENTRIES)):
        if f"npu_runtime/{file}" not in names:
            yield f"no npu_runtime/{file}"


def _tag(wheel: zipfile.ZipFile, names: set[str]) -> Iterator[str]:
    for name in names:
        if name.endswith(".dist-info/WHEEL"):
            text = wheel.read(name).decode()
            if not TAG.search(text):
                yield f"tag of another platform: {text}"


def _texts(data: bytes) -> Iterator[str]:
    """The device compiles the texts that the module itself carries."""
    texts = {"prelude": generator().prelude("metal")}
    texts |= {shader: generator().shader_body(shader, "metal") for shader in ENTRIES}
    for name, text in texts.items():
        if text.encode() not in data:
            yield f"shader text not in the module: {name}"


def _load_commands(module: macho.MachO) -> Iterator[str]:
    if (module.file_type, module.platform) != (macho.BUNDLE, macho.PLATFORM_MACOS):
        yield f"not a macOS bundle: type {module.file_type}, platform {module.platform}"
    if module.minimum_os != MINIMUM_MACOS:
        yield f"oldest macOS is {module.minimum_os}"
    if not module.signed:
        yield "no signature, which arm64 Macs ask for, if only an ad-hoc one"
    known = {library.path for library in libraries()}
    if set(module.libraries) != known:
        yield f"libraries differ by {sorted(known ^ set(module.libraries))}"


def _symbols(module: macho.MachO) -> Iterator[str]:
    if module.exports != ["_PyInit__native"]:
        yield f"exports {module.exports}"
    for library in libraries():
        yield from _imports(library, {i.name for i in module.imports if i.library == library.path})
    from_process = [i.name for i in module.imports if i.library is None]
    if "_PyModuleDef_Init" not in from_process and "_PyModule_Create2" not in from_process:
        yield "no import of Python's"
    for name in from_process:
        if not re.match(r"__?Py", name):
            yield f"unknown import, of the process: {name}"
    for name in NEWER_THAN_MACOS_13 - {i.name for i in module.imports if i.weak}:
        yield f"import not weak, or not there: {name}"


def _imports(library: Library, used: set[str]) -> Iterator[str]:
    for name in sorted(used - {*library.symbols, *library.optimised}):
        yield f"unknown import, of {library.path}: {name}"
    for name in sorted(set(library.symbols) - used):
        yield f"listed in symbols.toml, not used: {name} of {library.path}"
