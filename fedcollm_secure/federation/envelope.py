"""Every message between coordinator and silo in an envelope that its sender signed, on a channel that both opened.

    coordinator → silo    Offer    session, roster, plan, a fresh nonce            } the channel's name is the hash of
    silo → coordinator    Joined   the offer's digest, a fresh nonce               } both: it was never before
    coordinator → silo    Request  channel, number, digest of what follows         numbers grow by one
    silo → coordinator    Reply    behind its bytes: channel, number, their digest

Guarantee: a silo acts on nothing but what the coordinator of its roster sent to it, in this session, once and in order:
no message of another silo's, of an earlier connection, or said again is one. The coordinator takes no note for a silo's
that this silo did not sign as its answer to that very request. What carries the bytes is trusted with delivery alone;
it can lose them, and see them where it ends a connection's encryption.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedcollm_crypto.canonical import Json
from fedcollm_crypto.declared import Declared
from fedcollm_crypto.derivation import HASH_BYTES
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Identity, VerificationKey
from fedcollm_crypto.kinds import HexText, Natural
from fedcollm_crypto.signed import Signed, sign

PROTOCOL = 1
SEAL_BYTES = 1 << 13
"""Longest signed head or tail of a message: a post-quantum signature in hex has 4968."""
NONCE_BYTES = 16
_SIZE = struct.Struct(">I")
OFFER, REQUEST = b"O", b"R"


@dataclass(frozen=True, kw_only=True)
class Offer(Declared):
    """What a coordinator runs, to one silo."""

    KIND: ClassVar[str] = "offer"
    protocol: Natural
    to: str
    session: str
    roster: Annotated[str, HexText(HASH_BYTES)]
    plan: Annotated[str, HexText(HASH_BYTES)]
    nonce: Annotated[str, HexText(NONCE_BYTES)]


@dataclass(frozen=True, kw_only=True)
class Joined(Declared):
    """A silo's answer to an offer of what it runs itself."""

    KIND: ClassVar[str] = "joined"
    offer: Annotated[str, HexText(HASH_BYTES)]
    nonce: Annotated[str, HexText(NONCE_BYTES)]


@dataclass(frozen=True, kw_only=True)
class Request(Declared):
    """What stands before a request."""

    KIND: ClassVar[str] = "request"
    channel: Annotated[str, HexText(HASH_BYTES)]
    number: Natural
    digest: Annotated[str, HexText(HASH_BYTES)]


@dataclass(frozen=True, kw_only=True)
class Reply(Request):
    """What stands behind a reply."""

    KIND: ClassVar[str] = "reply"


def channel_of(offer: bytes, joined: bytes) -> str:
    """Return the name of the channel that these two messages open."""
    parts = b"".join(_SIZE.pack(len(part)) + part for part in (offer, joined))
    return hashlib.sha256(b"fedcollm/v1/channel\0" + parts).hexdigest()


def seal_request(identity: Identity, channel: str, number: int, payload: bytes) -> bytes:
    """Return a request in its envelope."""
    body = Request(channel=channel, number=number, digest=hashlib.sha256(payload).hexdigest())
    head = sign(identity, Request.KIND, body.to_body()).encode()
    return REQUEST + _SIZE.pack(len(head)) + head + payload


def open_request(message: bytes, key: VerificationKey, sender: str, channel: str, least: int) -> tuple[int, bytes]:
    """Return a request's number and payload. Raises: ProtocolError for any but the sender's next on this channel."""
    if len(message) < 1 + _SIZE.size:
        raise ProtocolError("envelope: cut off before its head")
    (size,) = _SIZE.unpack_from(message, 1)
    start = 1 + _SIZE.size
    if size > SEAL_BYTES or len(message) < start + size:
        raise ProtocolError(f"envelope: expected a head of at most {SEAL_BYTES} bytes")
    body = Request.from_body(opened(message[start : start + size], Request.KIND, sender, key))
    payload = message[start + size :]
    if body.channel != channel:
        raise ProtocolError("envelope: of another channel: it was sent to somebody else, or before")
    if body.number < least:
        raise ProtocolError(f"envelope: request {body.number} again, expected {least} or a later one")
    if body.digest != hashlib.sha256(payload).hexdigest():
        raise ProtocolError("envelope: what is in it is not what was signed")
    return body.number, payload


def seal_reply(identity: Identity, channel: str, number: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a reply's chunks, and behind them who sent them, and to what."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    body = Reply(channel=channel, number=number, digest=digest.hexdigest())
    tail = sign(identity, Reply.KIND, body.to_body()).encode()
    yield tail + _SIZE.pack(len(tail))


def open_reply(
    chunks: Iterable[bytes], key: VerificationKey, sender: str, expected: tuple[str, int]
) -> Iterator[bytes]:
    """Yield what is in a reply; `expected` is the channel and number that it must answer.

    Whoever reads a note reads it to its end, and so finds out before it believes any of it. A vector is taken in as it
    comes; it is signed in itself as well, and ends in an error here if it is not its sender's answer.
    Raises: ProtocolError.
    """
    digest, held = hashlib.sha256(), bytearray()
    for chunk in chunks:
        held += chunk
        if len(held) > 2 * SEAL_BYTES:
            ready = bytes(held[:-SEAL_BYTES])
            del held[:-SEAL_BYTES]
            digest.update(ready)
            yield ready
    if len(held) < _SIZE.size:
        raise ProtocolError("reply: cut off before its signature")
    (size,) = _SIZE.unpack_from(held, len(held) - _SIZE.size)
    start = len(held) - _SIZE.size - size
    if size > SEAL_BYTES - _SIZE.size or start < 0:
        raise ProtocolError("reply: cut off before its signature")
    rest, tail = bytes(held[:start]), bytes(held[start : -_SIZE.size])
    digest.update(rest)
    body = Reply.from_body(opened(tail, Reply.KIND, sender, key))
    if (body.channel, body.number) != expected or body.digest != digest.hexdigest():
        raise ProtocolError("reply: signed for another request, or about other bytes")
    yield rest


def opened(data: bytes, kind: str, sender: str, key: VerificationKey) -> Mapping[str, Json]:
    """Return the body of a message of this kind that this sender signed. Raises: ProtocolError."""
    if len(data) > SEAL_BYTES:
        raise ProtocolError(f"envelope: longer than {SEAL_BYTES} bytes")
    signed = Signed.decode(data)
    if (signed.kind, signed.sender) != (kind, sender):
        raise ProtocolError(f"envelope: expected {kind} of {sender}")
    signed.verify(key)
    return signed.body
