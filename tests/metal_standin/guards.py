"""Finds the guards of cpp/metal in its source: each barrier, wait, check, reference, pool, lock and
storage mode is a mutation of its own, so that none can be forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
METAL = ROOT / "cpp" / "metal"
# Stands for the mutant's condition in what a mutation puts into the source.
MUTANT = "{mutant}"


@dataclass(frozen=True)
class Mutation:
    """``text`` of a file in cpp/metal becomes ``instead``.

    With ``{mutant}`` in it, ``instead`` is code for both, chosen by that condition. Otherwise it is
    an expression in place of one, or, where the text ends with a semicolon, statements.
    ``at``: where the text begins; None where it stands once.
    """

    what: str
    file: str
    text: str
    instead: str
    at: int | None = None

    def span(self, source: str) -> tuple[int, int]:
        """Where the text lies in the file. Raises ValueError where it does not stand once."""
        if self.at is not None:
            return self.at, self.at + len(self.text)
        if source.count(self.text) != 1:
            raise ValueError(
                f"{self.what}: stands {source.count(self.text)} times in {self.file}: {self.text!r}"
            )
        begin = source.index(self.text)
        return begin, begin + len(self.text)

    def switched(self, condition: str) -> str:
        """Code that does as the mutant where the condition holds, else as the text."""
        if MUTANT in self.instead:
            return self.instead.replace(MUTANT, condition)
        if self.text.endswith(";"):
            return f"{{ if ({condition}) {{ {self.instead} }} else {{ {self.text} }} }}"
        return f"({condition} ? ({self.instead}) : ({self.text}))"


def _closing(source: str, opening: int) -> int:
    """Where the parenthesis closes that opens there."""
    depth = 0
    for at in range(opening, len(source)):
        depth += {"(": 1, ")": -1}.get(source[at], 0)
        if depth == 0:
            return at
    raise ValueError(f"a parenthesis does not close: {source[opening : opening + 60]!r}")


# A guard's text and the code for both, by the place where the pattern begins.
Finder = Callable[[str, "re.Match[str]"], tuple[int, str, str] | None]


def _statement(source: str, match: re.Match[str]) -> tuple[int, str, str]:
    return match.start(), match[0], ""


def _reference(source: str, match: re.Match[str]) -> tuple[int, str, str]:
    """One reference too many where an object is taken over, one too few where it is kept."""
    text = source[match.start() : _closing(source, match.end() - 1) + 1]
    function = "npu_retained" if match[1] == "Transfer" else "npu_released"
    return match.start(), text, f"{function}({MUTANT}, {text})"


def _pool(source: str, match: re.Match[str]) -> tuple[int, str, str]:
    code = f"std::optional<AutoreleasePool> pool; if (!{MUTANT}) pool.emplace();"
    return match.start(), match[0], code


def _lock(source: str, match: re.Match[str]) -> tuple[int, str, str]:
    code = f"std::unique_lock lock({match[1]}, std::defer_lock); if (!{MUTANT}) lock.lock();"
    return match.start(), match[0], code


def _storage(source: str, match: re.Match[str]) -> tuple[int, str, str]:
    other = {"Shared": "Private", "Private": "Shared"}[match[1]]
    return match.start(), match[0], f"MTL::ResourceStorageMode{other}"


_REFUSES = re.compile(
    r"\s*\{?\s*(return\s+)?(throw\b|throw_\w+\(|fail\(|unavailable\(|give_up\(|note_\(|"
    r"std::rethrow_exception\()"
)


def _check(source: str, match: re.Match[str]) -> tuple[int, str, str] | None:
    """The condition of an ``if`` that refuses something."""
    closing = _closing(source, match.end() - 1)
    text = source[match.end() : closing]
    if _REFUSES.match(source, closing + 1):
        return match.end(), text, f"!{MUTANT} && ({text})"
    return None


# Kinds of guards. What is behind the pattern's word is counted by a test: each use is found.
KINDS: dict[str, tuple[str, Finder]] = {
    "barrier": (r"encoder->memoryBarrier\([^;]*;", _statement),
    "wait": (r"[\w.()>-]+waitUntilCompleted\(\);|helper\.join\(\);", _statement),
    "encoder": (r"[\w.>-]+endEncoding\(\);", _statement),
    "check": (r"\bif \(", _check),
    "checks": (r"\bcheck_\w+\([^;{]*;", _statement),
    "reference": (r"NS::(Transfer|Retain)Ptr\(", _reference),
    "pool": (r"const AutoreleasePool pool;", _pool),
    "lock": (r"const std::lock_guard lock\((\w+)\);", _lock),
    "storage": (r"MTL::ResourceStorageMode(Shared|Private)\b", _storage),
}
WORDS = (
    *("memoryBarrier", "waitUntilCompleted", ".join()", "endEncoding", "TransferPtr", "RetainPtr"),
    *("AutoreleasePool pool", "unique_lock", "scoped_lock", "lock_guard", "ResourceStorageMode"),
)
# Is no device: its errors, which are those of a system without Metal, are held by test_errors.py in
# the module that is installed.
OTHERS = ("device_absent.cpp",)


def sources() -> dict[str, str]:
    """The files of the device and their texts."""
    files = sorted(p for p in METAL.glob("*.[ch]pp") if p.name not in OTHERS)
    return {path.name: path.read_text() for path in files}


def _found(file: str, source: str) -> Iterator[Mutation]:
    for kind, (pattern, finder) in KINDS.items():
        for match in re.finditer(pattern, source):
            begun = source.rfind("\n", 0, match.start()) + 1
            line = source[begun : match.start()]
            # Comments, and declarations of functions that check.
            if "//" in line or re.search(r"\bvoid ", line):
                continue
            guard = finder(source, match)
            if guard is not None:
                at, text, instead = guard
                shown = " ".join(text.split())
                yield Mutation(f"{kind}: {shown}", file, text, instead, at)


def guards() -> list[Mutation]:
    """Every guard, the descriptions made different by number where a file has equal ones."""
    found: list[Mutation] = []
    for file, source in sources().items():
        seen: dict[str, int] = {}
        for guard in sorted(_found(file, source), key=lambda m: m.at or 0):
            seen[guard.what] = number = seen.get(guard.what, 0) + 1
            what = guard.what if number == 1 else f"{guard.what} ({number})"
            found.append(Mutation(what, file, guard.text, guard.instead, guard.at))
    return found
