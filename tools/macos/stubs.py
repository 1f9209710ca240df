"""Link stubs (.tbd) for the macOS build on Linux: Apple's libraries by the names of their symbols.

A stub tells the linker which symbols a library has, and nothing else is needed to link. It has
exactly those that symbols.toml names.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

SYMBOLS = Path(__file__).with_name("symbols.toml")
TARGET = "arm64-macos"


@dataclass(frozen=True)
class Library:
    """One library of the system: where it lies on a Mac, and what is used of it."""

    path: str
    symbols: tuple[str, ...]
    # Further ones, which only the optimiser calls.
    optimised: tuple[str, ...] = ()

    @property
    def stub(self) -> Path:
        """The stub's place below the stubs' folder, where the linker looks for it."""
        name = Path(self.path).name
        if ".framework/" in self.path:
            return Path(f"{name}.framework") / f"{name}.tbd"
        return Path(re.sub(r"(\.[A-Z])?\.dylib$", ".tbd", name))

    def text(self) -> str:
        """The stub, as text-based stub of version 4."""
        names = ", ".join(f"'{symbol}'" for symbol in sorted((*self.symbols, *self.optimised)))
        return (
            "--- !tapi-tbd\ntbd-version: 4\n"
            f"targets: [ {TARGET} ]\n"
            f"install-name: '{self.path}'\n"
            "current-version: 1\ncompatibility-version: 1\n"
            f"exports:\n  - targets: [ {TARGET} ]\n    symbols: [ {names} ]\n...\n"
        )


def libraries() -> tuple[Library, ...]:
    """The libraries of symbols.toml, in its order."""
    records = tomllib.loads(SYMBOLS.read_text(encoding="utf-8"))["library"]
    return tuple(
        Library(r["path"], tuple(r["symbols"]), tuple(r.get("optimised", ()))) for r in records
    )


def write_stubs(out: Path) -> None:
    """Fill ``out`` with the stubs."""
    for library in libraries():
        target = out / library.stub
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(library.text(), encoding="utf-8")
