"""The replies of a silo to the coordinator, around the aggregation's own bytes; `messages` shows all forms."""

import itertools
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from fedcollm_crypto import canonical
from fedcollm_crypto.declared import Declared
from fedcollm_crypto.derivation import HASH_BYTES
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.kinds import HexText, Natural, Text
from fedcollm_secure.audit_log.event_fields import is_decimal

_PAYLOAD, _REFUSAL, _CLOSED, _COSIGNED, _GREETING, _DECLINED = b"\x01", b"\x02", b"\x03", b"\x04", b"\x05", b"\x06"
LARGEST_NOTE = 64 * 1024  # a refusal or a closing note is a few hundred bytes; more is not read


def _is_stated(epsilon: str) -> bool:
    return not epsilon or is_decimal(epsilon)  # the log will state it


@dataclass(frozen=True, kw_only=True)
class Refusal(Declared):
    """A silo says no: a code for the log and a sentence for people, neither with anything private in it."""

    reason_code: Annotated[str, Text(LARGEST_NOTE)]
    reason: Annotated[str, Text(LARGEST_NOTE)]


@dataclass(frozen=True, kw_only=True)
class Closed(Declared):
    """A silo's closing note: the head of its privacy ledger and ε spent so far as a decimal (empty without DP)."""

    ledger: Annotated[str, HexText(0, HASH_BYTES)]
    epsilon: Annotated[str, Text(rule=_is_stated, meaning="a decimal such as 1.25, or empty text,")]


@dataclass(frozen=True, kw_only=True)
class Cosigned(Declared):
    """A silo's answer to Show: its signature lines (empty without a view), and the size of its last head.

    `heard`: up to which entry it was shown the log's lines; what follows it has still to be shown.
    """

    lines: Annotated[str, Text(LARGEST_NOTE)]
    size: Natural
    heard: Natural

    def __post_init__(self) -> None:
        """Refuse a silo that was shown more lines than there are."""
        if self.heard > self.size:
            raise ValueError(f"heard: an integer in [0, size] was expected, got {self.heard} of {self.size}")


@dataclass(frozen=True, kw_only=True)
class Greeting:
    """A silo's answer to Begin: its signature lines under the head it was shown, and the aggregation's reply."""

    lines: str
    chunks: Iterator[bytes]


@dataclass(frozen=True, kw_only=True)
class Declined:
    """A silo's other answer to Begin: it acted on nothing, and signed why."""

    refusal: bytes


def payload_reply(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Put the reply's kind before the aggregation's chunks."""
    return itertools.chain((_PAYLOAD,), chunks)


def greeting_reply(lines: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Put a cosignature before the aggregation's chunks."""
    data = lines.encode()
    return itertools.chain((_GREETING, struct.pack("<I", len(data)) + data), chunks)


def declined_reply(refusal: bytes) -> Iterator[bytes]:
    """Return a signed refusal of an attempt that was not begun."""
    return iter((_DECLINED, refusal))


def note_reply(note: Refusal | Closed | Cosigned) -> Iterator[bytes]:
    """Return a refusal, a closing note or a cosignature as a reply."""
    kind = {Refusal: _REFUSAL, Closed: _CLOSED, Cosigned: _COSIGNED}[type(note)]
    yield kind + canonical.encode(note.to_body())


def disk_refusal(error: OSError) -> Refusal:
    """Return what the server is told of a party's own disk that failed: what the system said, and no path.

    A disk that fails in the midst of a vector cuts the reply off instead: its sender did not answer.
    """
    cause = error if error.errno is not None else error.__cause__
    code = cause.errno if isinstance(cause, OSError) else None
    said = f" ({os.strerror(code)})" if code is not None else ""
    return Refusal(
        reason_code="disk_failed",
        reason=f"this party's own disk could not be read or written{said}. Nothing was signed, opened or sent that it "
        "could not record; once there is room, start the party again",
    )


Reply = Iterator[bytes] | Refusal | Closed | Cosigned | Greeting | Declined


def read_reply(chunks: Iterable[bytes]) -> Reply:
    """Return the aggregation's chunks (still unread), with a greeting where there is one, or a note.

    Raises:
        ProtocolError: an empty reply, an unknown kind, or a note that does not parse.
    """
    stream = iter(chunks)
    first = next((chunk for chunk in stream if chunk), b"")
    kind, rest = first[:1], itertools.chain((first[1:],), stream)
    if kind == _PAYLOAD:
        return rest
    if kind == _GREETING:
        return _greeting(rest)
    if kind == _DECLINED:
        return Declined(refusal=_bounded(rest))
    if kind not in (_REFUSAL, _CLOSED, _COSIGNED):
        raise ProtocolError("reply: expected a payload, a greeting, a refusal, a closing note or a cosignature")
    note = canonical.decode(_bounded(rest))
    if kind == _COSIGNED:
        return Cosigned.from_body(note)
    return Refusal.from_body(note) if kind == _REFUSAL else Closed.from_body(note)


def _greeting(chunks: Iterator[bytes]) -> Greeting:
    """Read the cosignature and leave what follows it unread."""
    held = bytearray()

    def take(count: int) -> bytes:
        while len(held) < count:
            chunk = next(chunks, None)
            if chunk is None:
                raise ProtocolError("greeting: cut off inside the cosignature")
            held.extend(chunk)
        taken = bytes(held[:count])
        del held[:count]
        return taken

    (size,) = struct.unpack("<I", take(4))
    if size > LARGEST_NOTE:
        raise ProtocolError(f"greeting: expected a cosignature of at most {LARGEST_NOTE} bytes")
    try:
        lines = take(size).decode()
    except UnicodeDecodeError:
        raise ProtocolError("greeting: expected a cosignature in UTF-8") from None
    return Greeting(lines=lines, chunks=itertools.chain((bytes(held),), chunks))


def _bounded(chunks: Iterator[bytes]) -> bytes:
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > LARGEST_NOTE:
            raise ProtocolError(f"reply: expected a note of at most {LARGEST_NOTE} bytes")
    return bytes(data)
