"""JSON with exactly one spelling (RFC 8785), for all that is signed or hashed.

Decoding is strict: what is not byte for byte what we would have written is refused, so two parties never read one
signature in two ways. Floats are not allowed at all; a real number travels as `float.hex()` text.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

import rfc8785

from fedcollm_crypto.errors import ProtocolError

Json: TypeAlias = "str | int | bool | Sequence[Json] | Mapping[str, Json] | None"
"""What may be signed: text, integers below 2^53 in magnitude, truth values, lists and objects."""


def encode(value: Json) -> bytes:
    """Return the canonical bytes. Raises: TypeError for a float, ValueError for an integer beyond 2^53."""
    _refuse_floats(value)
    # rfc8785 declares dict and list where a Mapping and a Sequence serve; it only iterates over them.
    return rfc8785.dumps(cast("dict[str, str]", value))


def decode(data: bytes) -> Json:
    """Return the value of canonical bytes.

    Raises: ProtocolError for bytes that are not UTF-8 JSON, hold a duplicate key, a float, an integer beyond 2^53, or
    a lone surrogate, nest too deeply, are followed by anything, or are spelt in any other than the canonical way.
    """
    try:
        value = cast(
            Json,
            json.loads(data.decode(), object_pairs_hook=_object, parse_float=_no_float, parse_constant=_no_float),
        )
        respelt = encode(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise ProtocolError(f"not canonical JSON: {type(error).__name__}") from None
    if respelt != data:
        raise ProtocolError("not canonical JSON: the same value is spelt differently (RFC 8785)")
    return value


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate key")
    return members


def _no_float(_: str) -> Json:
    raise ValueError("floats are not allowed")


def _refuse_floats(value: Json) -> None:
    """Walk the value; a caller may have got past the type checker."""
    if isinstance(value, float):
        raise TypeError("floats have no place in signed data: send float.hex() text or an integer")
    if isinstance(value, Mapping):
        for member in value.values():
            _refuse_floats(member)
    elif isinstance(value, list | tuple):
        for member in value:
            _refuse_floats(member)
