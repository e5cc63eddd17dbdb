"""One line of the log: what happened, where it stands, and which line it follows.

    line = canonical JSON of {event, index, previous, time, version}
    leaf = SHA-256(0x00 ‖ line)          the line's leaf in the log's Merkle tree; the next line's `previous`

The first line's `previous` is 64 zeros. No line is signed by itself: a checkpoint signs all of them at once. The chain
of `previous` shows where a line was changed; the checkpoint shows that one was. Version 1 was signed line by line.
"""

import re
from dataclasses import dataclass

from fedcollm_crypto.canonical import Json, decode, encode
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.merkle import leaf_hash
from fedcollm_secure.audit_log.events import Event, event_from_json, event_to_json

VERSION = 3
GENESIS = bytes(32)
MAX_LINE_BYTES = 1 << 20  # a cohort of thousands fits; a hostile file does not fill the memory
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
FIELDS = {"event", "index", "previous", "time", "version"}

_TIME = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ", re.ASCII)


class BrokenChain(ValueError):
    """A line that does not follow the one before it: one of the two is not what was written."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line that was read: where it stands, when it was written (the writer's clock, UTC), and what it says."""

    index: int
    time: str
    event: Event
    leaf: bytes


def write_line(event: Event, *, index: int, previous: bytes, time: str) -> bytes:
    """Return the line, without its newline."""
    return encode(
        {
            "event": event_to_json(event),
            "index": index,
            "previous": previous.hex(),
            "time": time,
            "version": VERSION,
        }
    )


def read_line(line: bytes, *, index: int, previous: bytes) -> Entry:
    """Read one line and hold it against its place in the chain.

    Raises: ValueError with the reason; BrokenChain where the line before may be the one at fault.
    """
    body = _body(line, index)
    if body["previous"] != previous.hex() and index == 0:
        raise ValueError("the first entry must follow none: the beginning of the log was cut off")
    if body["previous"] != previous.hex():
        raise BrokenChain("the next entry does not follow it: it was changed or replaced after it was written")
    return _entry(line, body, index)


def read_unchained(line: bytes, *, index: int) -> Entry:
    """Read a line by itself; what comes before it is for the caller to prove, by an inclusion proof.

    Raises: ValueError with the reason.
    """
    return _entry(line, _body(line, index), index)


def _body(line: bytes, index: int) -> dict[str, Json]:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"the line is longer than {MAX_LINE_BYTES} bytes")
    body = _decode(line)
    if not isinstance(body, dict) or set(body) != FIELDS:
        raise ValueError(f"a line must hold exactly {', '.join(sorted(FIELDS))}")
    # A bool equals an int in Python, so the types are compared as well.
    if type(body["version"]) is not int or body["version"] != VERSION:
        raise ValueError(f"entry version {body['version']!r} is unknown; this program reads version {VERSION}")
    if type(body["index"]) is not int or body["index"] != index:
        raise ValueError(f"it says it is entry {body['index']!r}: a line was deleted, inserted or moved before it")
    return body


def _entry(line: bytes, body: dict[str, Json], index: int) -> Entry:
    return Entry(index=index, time=_time(body["time"]), event=event_from_json(body["event"]), leaf=leaf_hash(line))


def _decode(line: bytes) -> Json:
    try:
        return decode(line)
    except ProtocolError as error:
        raise ValueError(str(error)) from error


def _time(value: Json) -> str:
    if not isinstance(value, str) or _TIME.fullmatch(value) is None:
        raise ValueError(f"the time must read like 2026-01-31T12:00:00Z, got {value!r}")
    return value
