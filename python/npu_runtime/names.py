"""Values by name: in the program's order, with aliases, and with errors that list what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from npu_runtime.errors import ArgumentError

T = TypeVar("T")


def pick(
    given: Mapping[str, T], names: Sequence[str], other_names: Mapping[str, str], kind: str
) -> list[T]:
    """The values of ``given`` in the order of ``names``; ArgumentError if they differ."""
    exact = _exact(given, names)
    if exact is not None:
        return exact
    found: dict[str, T] = {}
    extra = []
    for key, value in given.items():
        name = key if key in names else other_names.get(key)
        if name is None:
            extra.append(key)
        elif name in found:
            raise ArgumentError(f"{kind} {name!r} is given twice: {listed(given)}")
        else:
            found[name] = value
    missing = [name for name in names if name not in found]
    if missing or extra:
        problems = []
        if missing:
            problems.append(f"missing {listed(missing)}")
        if extra:
            problems.append(f"unknown {listed(extra)}")
        raise ArgumentError(f"{kind}s {' and '.join(problems)}: the program takes {listed(names)}")
    return [found[name] for name in names]


def _exact(given: Mapping[str, T], names: Sequence[str]) -> list[T] | None:
    """The common case, for the sake of speed: real names, all of them and no others."""
    if len(given) != len(names):
        return None
    try:
        return [given[name] for name in names]
    except KeyError:
        return None


def listed(names: Iterable[Any], limit: int = 8) -> str:
    """Names for a message: quoted, at most ``limit`` of them, then a count."""
    every = [repr(str(n)) for n in names]
    if not every:
        return "none"
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more


class NamedOutputs(dict[str, T]):
    """The outputs of a run by their real names; aliases are found too but not listed."""

    def __init__(self, values: Mapping[str, T], other_names: Mapping[str, str]) -> None:
        super().__init__(values)
        self._other_names = other_names

    def __missing__(self, key: str) -> T:
        name = self._other_names.get(key)
        if name is None:
            raise KeyError(f"no output {key!r}: the program's outputs are {listed(self)}")
        return self[name]

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self._other_names

    def get(self, key: str, default: Any = None) -> Any:
        """As of a dict, aliases included."""
        name = self._other_names.get(key, key)
        return super().get(name, default)
