"""JSON with exactly one spelling (RFC 8785), for all that is signed or hashed.

Decoding is strict: what is not byte for byte what we would have written is refused, so two parties never read one
signature in two ways. Floats are not allowed at all; a real number travels as `float.hex()` text. How large and how
deep a text may be is said in `bounds`, and looked at before it is parsed.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

import rfc8785

from fedcollm_crypto.bounds import MAX_BYTES, MAX_DEPTH, check_bounds
from fedcollm_crypto.errors import ProtocolError

MAX_SHOWN = 32
"""Letters of a foreign field's name that an error shows."""

MAX_INTEGER = (1 << 53) - 1
"""Largest magnitude that every JSON reader keeps exactly."""

Json: TypeAlias = "str | int | bool | Sequence[Json] | Mapping[str, Json] | None"
"""What may be signed: text, integers below 2^53 in magnitude, truth values, lists and objects."""


def encode(value: Json) -> bytes:
    """Return the canonical bytes.

    Raises: TypeError for a float or a key that is not text, ValueError for an integer beyond 2^53, a lone surrogate, or
    more levels than anybody would read.
    """
    _refuse_foreign(value, MAX_DEPTH)
    return _spell(value)


def decode(data: bytes, longest: int = MAX_BYTES) -> Json:
    """Return the value of at most `longest` canonical bytes.

    Raises: ProtocolError for bytes beyond `bounds`, or that are not UTF-8 JSON, hold a duplicate key, a float, an
    integer beyond 2^53, or a lone surrogate, are followed by anything, or are spelt otherwise than we would.
    """
    try:
        check_bounds(data, longest)
        value = cast(
            Json,
            json.loads(
                data.decode(),
                object_pairs_hook=_object,
                parse_int=_integer,
                parse_float=_no_float,
                parse_constant=_no_float,
            ),
        )
        respelt = _spell(value)
    except ProtocolError as error:
        raise ProtocolError(f"not canonical {error}") from None
    except ValueError as error:
        raise ProtocolError(f"not canonical JSON: {type(error).__name__}") from None
    if respelt != data:
        raise ProtocolError("not canonical JSON: the same value is spelt differently (RFC 8785)")
    return value


def _spell(value: Json) -> bytes:
    """Spell a value without floats and large integers.

    The standard library's encoder is 20 times faster than a walk in Python, and a round of a hundred silos spells a
    million members. For ASCII its output is RFC 8785's: keys in the same order, the same escapes. For other text
    RFC 8785 orders keys by UTF-16 units, so the package written for it does the work; a test compares the two.
    """
    data = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode()
    if data.isascii():
        return data
    return rfc8785.dumps(cast("dict[str, str]", value))  # declared for dict and list; a Json is made of these


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        twice, _ = max(Counter(key for key, _ in pairs).items(), key=lambda counted: counted[1])
        raise ProtocolError(f"JSON: the field {twice[:MAX_SHOWN]!a} stands there twice")
    return members


def _integer(text: str) -> int:
    number = int(text)
    if abs(number) > MAX_INTEGER:
        raise ValueError("integer beyond 2^53")
    return number


def _no_float(_: str) -> Json:
    raise ValueError("floats are not allowed")


def _refuse_foreign(value: Json, levels: int) -> None:
    """Walk the value; a caller may have got past the type checker, and the fast encoder would coerce."""
    if isinstance(value, str) or value is None:
        return
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise ValueError("integers beyond 2^53 have no place in signed data: send text")
    elif isinstance(value, dict):
        if set(map(type, value)) - {str}:
            raise TypeError("keys are text")
        _refuse_deep(levels)
        for member in value.values():
            _refuse_foreign(member, levels - 1)
    elif isinstance(value, list | tuple):
        _refuse_deep(levels)
        for member in value:
            _refuse_foreign(member, levels - 1)
    else:
        raise TypeError(f"{type(value).__name__} has no place in signed data: for a real number send float.hex() text")


def _refuse_deep(levels: int) -> None:
    if not levels:
        raise ValueError(f"at most {MAX_DEPTH} lists and objects inside one another have a place in signed data")
