"""Kernel records: every NPU instruction, declared once. ``KERNELS`` maps names to records, ordered
by id; every module of this package that has Kernel records at its top level contributes them.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from npu_compiler.kernels.record import Kernel


def _collect() -> dict[str, Kernel]:
    found: dict[int, Kernel] = {}
    for info in iter_modules(__path__):
        module = import_module(f"{__name__}.{info.name}")
        for value in vars(module).values():
            if isinstance(value, Kernel) and found.setdefault(value.id, value) is not value:
                raise ValueError(f"kernels {value.name} and {found[value.id].name} share an id")
    return {found[i].name: found[i] for i in sorted(found)}


KERNELS: dict[str, Kernel] = _collect()
KERNELS_BY_ID: dict[int, Kernel] = {k.id: k for k in KERNELS.values()}
