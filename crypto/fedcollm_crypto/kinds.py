"""What one field of a message may hold. A kind reads it from JSON, strictly, and writes it back.

Each refuses with ProtocolError that names the message and the field, what was expected, and of what sort and size the
value was that came: never the value itself, which may be anybody's secret. How full and how long a field may be where
its declaration does not say so stands in `bounds`.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Protocol, TypeAlias, runtime_checkable

from fedcollm_crypto.bounds import MAX_TEXT
from fedcollm_crypto.canonical import MAX_INTEGER, Json
from fedcollm_crypto.derivation import HASH_BYTES
from fedcollm_crypto.errors import ProtocolError


@runtime_checkable
class Kind(Protocol):
    """Read and write one value."""

    def read(self, where: str, value: Json) -> object:
        """Return what the JSON stands for; `where` names message and field. Raises: ProtocolError."""
        ...

    def write(self, value: object) -> Json:
        """Return the JSON of a value. Raises: TypeError for one of another type."""
        ...


class Octets:
    """As many bytes as one of `lengths` says, in lower-case hex."""

    def __init__(self, *lengths: int, check: Callable[[bytes, str], object] | None = None) -> None:
        """Take the lengths, and what raises ProtocolError for bytes that are no key, say; it is told `where`."""
        self.lengths = lengths
        self.check = check

    def read(self, where: str, value: Json) -> bytes:
        """Return the bytes."""
        data = _unhex(value) if isinstance(value, str) else None
        if data is None or len(data) not in self.lengths:
            several = " or ".join(map(str, self.lengths))
            raise unexpected(where, f"{several} bytes in lower-case hex were", value)
        if self.check is not None:
            self.check(data, where)
        return data

    def write(self, value: object) -> str:
        """Return the hex."""
        if not isinstance(value, bytes):
            raise mistyped("bytes", value)
        return value.hex()


class HexText:
    """The same bytes, kept as the hex that they travel in."""

    def __init__(self, *lengths: int) -> None:
        """Take the lengths in bytes."""
        self.octets = Octets(*lengths)

    def read(self, where: str, value: Json) -> str:
        """Return the hex."""
        return self.octets.read(where, value).hex()

    def write(self, value: object) -> str:
        """Return it as it is."""
        return _text(value)


class Text:
    """Text of at most `longest` characters; where there is a rule, text that keeps it, which `meaning` words."""

    def __init__(
        self, longest: int = MAX_TEXT, *, rule: Callable[[str], bool] | None = None, meaning: str = "text"
    ) -> None:
        """Take the longest, and the rule."""
        self.longest = longest
        self.rule = rule
        self.meaning = meaning

    def read(self, where: str, value: Json) -> str:
        """Return the text."""
        if not isinstance(value, str) or len(value) > self.longest or not (self.rule is None or self.rule(value)):
            raise unexpected(where, f"{self.meaning} of at most {self.longest} characters was", value)
        return value

    def write(self, value: object) -> str:
        """Return it as it is."""
        return _text(value)


class Choice:
    """One of a few values that are spelt out, as `Literal` declares them."""

    def __init__(self, *options: str | int) -> None:
        """Take what may stand there."""
        self.options = options

    def read(self, where: str, value: Json) -> str | int:
        """Return the one that it is."""
        for option in self.options:
            if type(value) is type(option) and value == option:
                return option
        raise unexpected(where, f"{' or '.join(map(str, self.options))} was", value)

    def write(self, value: object) -> str | int:
        """Return it as it is."""
        if not isinstance(value, str | int):
            raise mistyped("text or an integer", value)
        return value


class Whole:
    """An integer in [low, high]; true and false are none."""

    def __init__(self, low: int = 0, high: int = MAX_INTEGER) -> None:
        """Take both ends."""
        self.low = low
        self.high = high

    def read(self, where: str, value: Json) -> int:
        """Return the integer."""
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise unexpected(where, f"an integer in [{self.low}, {self.high}] was", value)
        return value

    def write(self, value: object) -> int:
        """Return it as it is."""
        if not isinstance(value, int):
            raise mistyped("an integer", value)
        return value


class BigWhole:
    """An integer in [low, high] as decimal text, for JSON's integers end at 2^53: one spelling, no leading zeros."""

    def __init__(self, low: int, high: int, *, meaning: str) -> None:
        """Take both ends, and what a person is told is expected."""
        self.low = low
        self.high = high
        self.meaning = meaning

    def read(self, where: str, value: Json) -> int:
        """Return the integer."""
        fits = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= len(str(self.high))
        number = int(str(value)) if fits else -1
        if str(number) != value or not self.low <= number <= self.high:
            raise unexpected(where, f"{self.meaning} was", value)
        return number

    def write(self, value: object) -> str:
        """Return its decimal digits."""
        if not isinstance(value, int):
            raise mistyped("an integer", value)
        return str(value)


class Real:
    """A float as `float.hex()` spells it."""

    def read(self, where: str, value: Json) -> float:
        """Return the float."""
        try:
            number = float.fromhex(value) if isinstance(value, str) and len(value) <= MAX_TEXT else None
        except (ValueError, OverflowError):
            number = None
        if number is None or number.hex() != value:
            raise unexpected(where, "a number as float.hex() spells it was", value)
        return number

    def write(self, value: object) -> str:
        """Return its hexadecimal spelling."""
        if not isinstance(value, float):
            raise mistyped("a float", value)
        return value.hex()


class Truth:
    """True or false."""

    def read(self, where: str, value: Json) -> bool:
        """Return which."""
        if not isinstance(value, bool):
            raise unexpected(where, "true or false was", value)
        return value

    def write(self, value: object) -> bool:
        """Return it as it is."""
        if not isinstance(value, bool):
            raise mistyped("a truth value", value)
        return value


Sha256: TypeAlias = Annotated[bytes, Octets(HASH_BYTES)]
Natural: TypeAlias = Annotated[int, Whole()]


def unexpected(where: str, expected: str, value: Json) -> ProtocolError:
    """Return the error for a value that is not what was expected; of the value it tells the shape alone."""
    return ProtocolError(f"{where}: {expected} expected, got {shape(value)}")


def mistyped(expected: str, value: object) -> TypeError:
    """Return the error for a caller's value of another type."""
    return TypeError(f"{expected} was expected to be written, got {type(value).__name__}")


def shape(value: Json) -> str:
    """Say of what sort and size a value is, and nothing of what it says."""
    match value:
        case None:
            return "null"
        case bool():
            return "a truth value"
        case int():
            return "an integer"
        case str():
            return f"text of {len(value)} characters"
        case Mapping():
            return f"an object of {len(value)}"
        case list() | tuple():
            return f"a list of {len(value)}"
        case _:
            return type(value).__name__  # no JSON of ours: a caller got past the type checker


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise mistyped("text", value)
    return value


def _unhex(text: str) -> bytes | None:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return None
    return data if data.hex() == text else None  # fromhex takes upper case, and skips blanks
