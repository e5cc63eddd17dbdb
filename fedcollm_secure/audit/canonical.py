"""Canonical JSON (RFC 8785) for everything that is signed: one value, one spelling.

Floats are refused: two machines print them differently, and an equal value must have an equal signature. Write
decimal strings or scaled integers.
"""

import json
from typing import Never, TypeAlias

import rfc8785

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | bool | None"


def canonical_bytes(value: Json) -> bytes:
    """Return the one spelling of `value`.

    Raises: ValueError for a float, an integer beyond 2^53 − 1, or text that is not Unicode.
    """
    _refuse_floats(value)
    return rfc8785.dumps(value)  # pyright: ignore[reportArgumentType]  # lists and dicts are invariant; same shape


def parse_canonical(data: bytes) -> Json:
    """Read what `canonical_bytes` wrote, and nothing else.

    Raises: ValueError for malformed JSON, a key given twice, a float, or any other spelling of the same value.
    """
    try:
        value: Json = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object_without_duplicates,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    if canonical_bytes(value) != data:
        raise ValueError("the JSON is not in canonical form (RFC 8785)")
    return value


def _object_without_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    parsed: dict[str, Json] = {}
    for key, value in pairs:
        if key in parsed:
            raise ValueError(f"the key {key!r} is given twice; Python would silently keep the last")
        parsed[key] = value
    return parsed


def _refuse_number(text: str) -> Never:
    raise ValueError(f"{text!r} is not an integer; signed objects hold decimal strings or scaled integers")


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise ValueError("a float cannot be signed; use a decimal string or a scaled integer")
    if isinstance(value, dict):
        for item in value.values():
            _refuse_floats(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_floats(item)
