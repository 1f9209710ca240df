"""Typed access to untrusted JSON objects: a wrong or missing field is one error that says where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .attrs import attr_from_json
from .errors import SerializationError

__all__ = ["Reader"]

_REQUIRED: Any = object()


class Reader:
    """Reads the fields of one JSON object, which ``where`` describes in error messages.

    Raises:
        SerializationError: (from any method) the field is missing or has another type.
    """

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, Mapping):
            raise SerializationError(f"{where}: expected an object, found {_describe(data)}")
        self.data = data
        self.where = where

    def _field(self, key: str, default: Any, types: tuple[type, ...], wanted: str) -> Any:
        if key not in self.data:
            if default is _REQUIRED:
                raise SerializationError(
                    f"{self.where}: missing field {key!r}; it must be {wanted}"
                )
            return default
        value = self.data[key]
        if value is None and default is None:
            return None
        # bool is a subclass of int, but true is not a number in JSON.
        if not isinstance(value, types) or isinstance(value, bool):
            raise SerializationError(
                f"{self.where}: field {key!r} must be {wanted}, found {_describe(value)}"
            )
        return value

    def text(self, key: str, default: Any = _REQUIRED) -> Any:
        """Return a string field."""
        return self._field(key, default, (str,), "a string")

    def integer(self, key: str) -> int:
        """Return an integer field."""
        return int(self._field(key, _REQUIRED, (int,), "an integer"))

    def items(self, key: str) -> list[Any]:
        """Return a list field."""
        return list(self._field(key, _REQUIRED, (list, tuple), "a list"))

    def mapping(self, key: str) -> Mapping[str, Any]:
        """Return an object field, whose keys are strings."""
        found: Mapping[str, Any] = self._field(key, _REQUIRED, (Mapping,), "an object")
        for name in found:
            if not isinstance(name, str):
                raise SerializationError(
                    f"{self.where}: field {key!r} has a key that is not a string: {_describe(name)}"
                )
        return found

    def text_map(self, key: str, optional: bool = False) -> dict[str, str]:
        """Return an object field whose values are strings; empty where optional and absent."""
        if optional and key not in self.data:
            return {}
        found = self.mapping(key)
        for name, value in found.items():
            if not isinstance(value, str):
                raise SerializationError(
                    f"{self.where}: {key}[{name!r}] must be a string, found {_describe(value)}"
                )
        return dict(found)

    def sizes(self, key: str) -> list[int]:
        """Return a field that is a list of sizes >= 0."""
        found = self.items(key)
        for index, size in enumerate(found):
            if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                raise SerializationError(
                    f"{self.where}: {key}[{index}] must be an integer >= 0, found {_describe(size)}"
                )
        return found

    def attribute(self, key: str) -> Any:
        """Return a field that holds attribute data."""
        if key not in self.data:
            raise SerializationError(f"{self.where}: missing field {key!r}")
        return attr_from_json(self.data[key], f"{self.where}: {key}")

    def attributes(self, key: str) -> dict[str, Any]:
        """Return an object field whose values are attribute data."""
        return {
            name: attr_from_json(value, f"{self.where}: attribute {name!r}")
            for name, value in self.mapping(key).items()
        }


def _describe(value: Any) -> str:
    text = repr(value)
    shown = text if len(text) <= 40 else text[:37] + "..."
    return f"{type(value).__name__} {shown}"
