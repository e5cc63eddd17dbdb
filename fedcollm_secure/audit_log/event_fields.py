"""What a field of a log entry may hold: the allow-list is the type annotation, checked when an event is made.

Free text is not a kind: a sentence could carry a loss, a path or a record, so reasons are codes such as
`budget_exhausted`. A mapping's keys are checked like its values.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, TypeAlias, get_args, get_origin, get_type_hints

JSON_INTEGER_LIMIT = 2**53  # RFC 8785: integers beyond it have no canonical form


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """Text that matches `regex` from end to end; `meaning` is what a person is told when it does not."""

    meaning: str
    regex: str


Digest: TypeAlias = Annotated[str, Pattern(meaning="64 hexadecimal digits", regex=r"[0-9a-f]{64}")]
Code: TypeAlias = Annotated[str, Pattern(meaning="a code such as budget_exhausted", regex=r"[a-z][a-z0-9_]{0,63}")]
Label: TypeAlias = Annotated[
    str,
    Pattern(
        meaning="1 to 128 printable letters that can name a folder",  # a silo's name is one: silos/NAME
        regex=r"(?!\.{1,2}$)[^\x00-\x1f\x7f-\x9f/\\\ud800-\udfff]{1,128}",
    ),
]
Version: TypeAlias = Annotated[
    str, Pattern(meaning="a version such as 2.8.0+cpu", regex=r"[A-Za-z0-9][A-Za-z0-9.+!_-]{0,63}")
]
Decimal: TypeAlias = Annotated[
    str, Pattern(meaning="a decimal such as 1.25, or inf", regex=r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,12})?|inf")
]
Count: TypeAlias = int


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Be valid once made: what could not be read back, or tells too much, can't be written by accident either."""

    def __post_init__(self) -> None:
        """Raise ValueError for a value outside the allow-list."""
        check_fields(self)


def check_fields(event: object) -> None:
    """Hold every field of a dataclass against its annotation.

    Raises: ValueError naming the field, what was expected and (for short text) what came.
    """
    for name, hint in _hints(type(event)).items():  # type: ignore[arg-type]  # mypy: a type is hashable
        _check(f"{type(event).__name__}.{name}", hint, getattr(event, name))


def is_decimal(text: str) -> bool:
    """Say whether a field of the log can hold this as a `Decimal`."""
    pattern: Pattern = get_args(Decimal)[1]
    return re.fullmatch(pattern.regex, text) is not None


@cache
def _hints(kind: type) -> Mapping[str, object]:
    return get_type_hints(kind, include_extras=True)


def _check(where: str, hint: object, value: object) -> None:
    if get_origin(hint) is Annotated:
        _check_pattern(where, get_args(hint)[1], value)
    elif get_origin(hint) is tuple:
        _check_tuple(where, get_args(hint)[0], value)
    elif get_origin(hint) is not None:
        key_hint, value_hint = get_args(hint)
        _check_mapping(where, key_hint, value_hint, value)
    elif hint is bool:
        _require(isinstance(value, bool), where, "true or false")
    else:
        _check_count(where, value)


def _check_pattern(where: str, pattern: Pattern, value: object) -> None:
    matches = isinstance(value, str) and re.fullmatch(pattern.regex, value) is not None
    _require(matches, where, pattern.meaning)


def _check_tuple(where: str, item_hint: object, value: object) -> None:
    if not isinstance(value, tuple):
        raise ValueError(f"{where} must be a tuple, got {type(value).__name__}")
    for item in value:
        _check(where, item_hint, item)
    _require(len(set(value)) == len(value), where, "names that differ from one another")


def _check_mapping(where: str, key_hint: object, value_hint: object, value: object) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} must be a mapping, got {type(value).__name__}")
    for key, item in value.items():
        _check(f"{where} (a key)", key_hint, key)
        _check(f"{where}[{key!r}]", value_hint, item)


def _check_count(where: str, value: object) -> None:
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < JSON_INTEGER_LIMIT
    _require(fits, where, "a whole number from 0 to 2^53 − 1")


def _require(holds: bool, where: str, expected: str) -> None:
    # The value itself is left out: it may be the very secret that must not reach a log or a message.
    if not holds:
        raise ValueError(f"{where} must be {expected}; the value given is not shown")
