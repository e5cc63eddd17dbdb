"""Kinds of fields that hold several values, an object of somebody else's, or perhaps nothing; see `kinds`."""

from collections.abc import Mapping

from fedcollm_crypto.bounds import MAX_ITEMS, MAX_TEXT
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.kinds import Kind, mistyped, unexpected


class Items:
    """A list of `least` to `most` values of one kind; `ascending`: distinct, in alphabetical order."""

    def __init__(self, of: Kind, *, least: int = 0, most: int = MAX_ITEMS, ascending: bool = False) -> None:
        """Take the kind of each, and the bounds."""
        self.of = of
        self.least = least
        self.most = most
        self.ascending = ascending

    def read(self, where: str, value: Json) -> tuple[object, ...]:
        """Return the values."""
        if not isinstance(value, list | tuple) or not self.least <= len(value) <= self.most:
            size = f"at most {self.most}" if not self.least else f"{self.least} to {self.most}"
            raise unexpected(where, f"a list of {size} was", value)
        found = tuple(self.of.read(where, one) for one in value)
        if self.ascending and list(map(str, found)) != sorted(set(map(str, found))):
            raise unexpected(where, "distinct names in alphabetical order were", value)
        return found

    def write(self, value: object) -> list[Json]:
        """Return a list."""
        if not isinstance(value, tuple):
            raise mistyped("a tuple", value)
        return [self.of.write(one) for one in value]


class Members:
    """A map from at most `MAX_ITEMS` names, each text of at most `MAX_TEXT` characters, to values of one kind."""

    def __init__(self, of: Kind) -> None:
        """Take the kind of each value."""
        self.of = of

    def read(self, where: str, value: Json) -> dict[str, object]:
        """Return the map."""
        if not isinstance(value, Mapping) or len(value) > MAX_ITEMS or any(len(name) > MAX_TEXT for name in value):
            raise unexpected(where, f"an object of at most {MAX_ITEMS} names was", value)
        return {name: self.of.read(where, one) for name, one in value.items()}

    def write(self, value: object) -> dict[str, Json]:
        """Return an object."""
        if not isinstance(value, Mapping):
            raise mistyped("a mapping", value)
        return {str(name): self.of.write(one) for name, one in value.items()}


class Free:
    """An object of any members: somebody else knows what they mean. Its depth and size are those of all JSON."""

    def read(self, where: str, value: Json) -> Mapping[str, Json]:
        """Return the object."""
        if not isinstance(value, Mapping):
            raise unexpected(where, "an object was", value)
        return value

    def write(self, value: object) -> Mapping[str, Json]:
        """Return it as it is."""
        if not isinstance(value, Mapping):
            raise mistyped("a mapping", value)
        return {str(name): one for name, one in value.items()}


class OrNull:
    """A value of this kind, or null where there is none."""

    def __init__(self, of: Kind) -> None:
        """Take the kind."""
        self.of = of

    def read(self, where: str, value: Json) -> object:
        """Return the value, or None."""
        return None if value is None else self.of.read(where, value)

    def write(self, value: object) -> Json:
        """Return its JSON, or null."""
        return None if value is None else self.of.write(value)
