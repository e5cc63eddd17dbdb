"""How large, how deep and how full foreign JSON may be, looked at before any of it is parsed.

A parser pays for each value, recurses with each level, and raises RecursionError at one depth or another of its own.
These bounds cost a few passes over the bytes instead, all of them in C, and no signature needs to be checked first.

    bytes     of the kind of message; 16 MiB at the most
    depth     a post-quantum hello inside a relay, the deepest message, has 6 levels
    values    a relay among 1000 silos, the fullest, has some 12,000
"""

import re

from fedcollm_crypto.errors import ProtocolError

MAX_BYTES = 1 << 24
"""Longest JSON text of any kind."""

MAX_DEPTH = 16
"""Most lists and objects inside one another."""

MAX_VALUES = 1 << 17
"""Most members of all lists and objects together."""

MAX_ITEMS = 1 << 16
"""Most members of one list or map in a message whose declaration does not name fewer."""

MAX_TEXT = 512
"""Longest text of a field, in characters, where its declaration does not say otherwise."""

MAX_MARKS = 8 * MAX_VALUES
"""Most quotation marks and backslashes: two for a key, two for a text, and as many inside texts."""

_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""A text, also one that does not end: a pattern that failed there would be tried again at each quotation mark in it."""
_KEPT = b'[]{},"'
_DROPPED = bytes(value for value in range(256) if value not in _KEPT)
_FOLD = bytes.maketrans(b"{}", b"[]")


def check_bounds(data: bytes, longest: int = MAX_BYTES) -> None:
    """Refuse JSON that is longer than `longest` bytes, deeper than `MAX_DEPTH` or fuller than `MAX_VALUES`.

    Guarantee: where this returns, a JSON reader meets at most so many levels and values before it comes to the end or
    to its first error, whatever the bytes are; up to there, both read the same texts and brackets.
    Raises: ProtocolError, also for brackets that do not match.
    """
    if len(data) > longest:
        raise ProtocolError(f"JSON: at most {longest} bytes were expected, got {len(data)}")
    if data.count(b'"') + data.count(b"\\") > MAX_MARKS:
        raise ProtocolError(f"JSON: at most {MAX_MARKS} quotation marks and backslashes were expected")
    bare = _TEXT.sub(b"", data).translate(_FOLD, _DROPPED)
    if bare.count(b",") + bare.count(b"[") > MAX_VALUES:
        raise ProtocolError(f"JSON: at most {MAX_VALUES} values were expected")
    brackets = bare.replace(b",", b"")
    for _ in range(MAX_DEPTH):  # each pass takes the innermost pairs away: one level
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise ProtocolError(f"JSON: brackets that match, at most {MAX_DEPTH} inside one another, were expected")
