"""Typed reading of JSON and YAML that another program, or a person, may have touched.

A report must be possible for a run that was cut short, so what is absent has a default; what is there in the wrong
shape is an error that names its place.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from fedcollm_secure.errors import RunError


@dataclass(frozen=True, kw_only=True)
class Document:
    """A JSON object and the place it was read from, e.g. `summary.json`."""

    place: str
    items: dict[str, object]

    @classmethod
    def of(cls, place: str, value: object) -> "Document":
        """Take any parsed value. Raises: RunError unless it is an object with text keys."""
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise RunError(f"{place} must hold an object with named entries, got {type(value).__name__}")
        return cls(place=place, items=value)

    def child(self, key: str) -> "Document":
        """Return the object under `key`; an empty one where it is absent or null."""
        value = self.items.get(key)
        return Document.of(f"{self.place}.{key}", {} if value is None else value)

    def children(self, key: str) -> list["Document"]:
        """Return the list of objects under `key`; empty where it is absent or null."""
        values = self.items.get(key)
        if values is None:
            return []
        if not isinstance(values, list):
            raise RunError(f"{self.place}.{key} must hold a list, got {type(values).__name__}")
        return [Document.of(f"{self.place}.{key}[{index}]", value) for index, value in enumerate(values)]

    def named_children(self) -> Iterator[tuple[str, "Document"]]:
        """Yield every entry that is itself an object, with its name."""
        for key, value in self.items.items():
            if isinstance(value, dict):
                yield key, self.child(key)

    def text(self, key: str) -> str | None:
        """Return the text under `key`, or None."""
        value = self.items.get(key)
        if value is None or isinstance(value, str):
            return value
        raise RunError(f"{self.place}.{key} must hold text, got {type(value).__name__}")

    def number(self, key: str) -> float | None:
        """Return the number under `key`, or None; an infinite or undefined one counts as absent."""
        value = self.items.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RunError(f"{self.place}.{key} must hold a number, got {type(value).__name__}")
        return _finite(value)

    def whole(self, key: str) -> int | None:
        """Return the whole number under `key`, or None."""
        number = self.number(key)
        return None if number is None else int(number)

    def interval(self, key: str) -> tuple[float, float] | None:
        """Return the pair [low, high] under `key`; None where it is absent, or either end is (a single seed)."""
        value = self.items.get(key)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise RunError(f"{self.place}.{key} must hold [low, high], got {type(value).__name__}")
        ends = Document(place=f"{self.place}.{key}", items={"low": value[0], "high": value[1]})
        low, high = ends.number("low"), ends.number("high")
        return None if low is None or high is None else (low, high)

    def numbers(self) -> dict[str, float]:
        """Return every entry that is a finite number, by name."""
        return {
            key: number
            for key, value in self.items.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and (number := _finite(value)) is not None
        }


def _finite(value: int | float) -> float | None:
    """Return a number that a float can hold; JSON's integers have no end."""
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
