"""Strict reading of one JSON object: each field once, of its type and length, and nothing besides."""

from collections.abc import Mapping, Sequence

from fedcollm_crypto.canonical import Json
from fedcollm_crypto.errors import ProtocolError

MAX_TEXT = 512
"""Longest name or sentence in a message."""


class Fields:
    """Take the fields out of an object one by one; `close` refuses what was not taken.

    Every method raises ProtocolError that names the message and the field, never the value.
    """

    def __init__(self, what: str, value: Json) -> None:
        """Read the object `value`; `what` names it in errors."""
        if not isinstance(value, Mapping):
            raise ProtocolError(f"{what}: an object was expected, got {type(value).__name__}")
        self._what = what
        self._left: dict[str, Json] = dict(value)

    def text(self, name: str, longest: int = MAX_TEXT) -> str:
        """Take a text of at most `longest` characters."""
        value = self._take(name)
        if not isinstance(value, str) or len(value) > longest:
            raise self._wrong(name, f"text of at most {longest} characters")
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        """Take an integer in [low, high]."""
        value = self._take(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(name, f"an integer in [{low}, {high}]")
        return value

    def octets(self, name: str, *lengths: int) -> bytes:
        """Take as many bytes, written in lower-case hex, as one of the lengths says."""
        return octets(f"{self._what}.{name}", self._take(name), *lengths)

    def has(self, name: str) -> bool:
        """Say whether an optional field is there and not yet taken."""
        return name in self._left

    def items(self, name: str) -> Sequence[Json]:
        """Take a list."""
        value = self._take(name)
        if not isinstance(value, list):
            raise self._wrong(name, "a list")
        return value

    def names(self, name: str) -> tuple[str, ...]:
        """Take a list of names."""
        return tuple(str(one) for one in self.items(name))

    def sorted_names(self, name: str) -> tuple[str, ...]:
        """Take a list of distinct names in alphabetical order."""
        names = self.names(name)
        if list(names) != sorted(set(names)):
            raise self._wrong(name, "distinct names in alphabetical order")
        return names

    def members(self, name: str) -> Mapping[str, Json]:
        """Take an object."""
        value = self._take(name)
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return value

    def close(self) -> None:
        """Refuse fields that nobody asked for."""
        if self._left:
            raise ProtocolError(f"{self._what}: unknown fields, of this version there are {len(self._left)} too many")

    def _take(self, name: str) -> Json:
        if name not in self._left:
            raise ProtocolError(f"{self._what}: the field {name} is missing")
        return self._left.pop(name)

    def _wrong(self, name: str, expected: str) -> ProtocolError:
        return ProtocolError(f"{self._what}.{name}: {expected} was expected")


def octets(what: str, value: Json, *lengths: int) -> bytes:
    """Return the bytes, as many as one of the lengths says, that lower-case hex stands for. Raises: ProtocolError."""
    if isinstance(value, str) and len(value) in {2 * n for n in lengths} and value.isascii() and value == value.lower():
        try:
            data = bytes.fromhex(value)
        except ValueError:
            data = b""
        if 2 * len(data) == len(value):  # fromhex skips blanks, which would leave fewer bytes
            return data
    expected = " or ".join(str(length) for length in lengths)
    raise ProtocolError(f"{what}: {expected} bytes in lower-case hex were expected")
