"""A signed message: kind, sender, body, signature. Every message of the protocol is one.

    wire    {"body":BODY,"from":sender,"kind":kind,"signature":hex}

A receiver cuts these bytes at the last `,"from":`, which no text inside the body can hold, since a quotation mark in
one is escaped. What is verified are the bytes that came; the body is parsed when it is first looked at, by when
`verify` should have been called. A stranger's bytes cost one hash and one signature check, whatever is in them.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, ClassVar, TypeAlias

from fedcollm_crypto import canonical
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.bounds import MAX_BYTES
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.declared import Called, Declared
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import (
    HYBRID_SIGNATURE_BYTES,
    SIGNATURE_BYTES,
    Identity,
    VerificationKey,
    verify_signature,
)
from fedcollm_crypto.kinds import Octets, mistyped, unexpected

MAX_SMALL_BYTES = 1 << 15
"""Longest body of a message that does not grow with the cohort: a post-quantum hello has some 6000 bytes."""

SMALL_KINDS = frozenset(
    ("hello", "upload", "consent", "refusal", "he-key-request", "he-key", "he-opened", "he-commitment", "he-sent")
)

MAX_ENVELOPE_BYTES = 1 << 14
"""Longest rest of a message behind its body: a name, a kind and a post-quantum signature have some 6000 bytes."""

_OPENING, _REST = b'{"body":{', b',"from":'
_BODY = len(_OPENING) - 1  # where the body begins


@dataclass(frozen=True, kw_only=True)
class _Envelope(Declared):
    """What a message has beside its body."""

    NAME: ClassVar[str] = "message"
    kind: str
    sender: Annotated[PartyId, Called("from")]
    signature: Annotated[bytes, Octets(SIGNATURE_BYTES, HYBRID_SIGNATURE_BYTES)]


@dataclass(frozen=True, kw_only=True)
class Signed:
    """What a sender says it signed. Nothing in it is to be believed before `verify`."""

    kind: str
    sender: PartyId
    body_bytes: bytes
    signature: bytes

    @cached_property
    def body(self) -> Mapping[str, Json]:
        """Return the body. Raises: ProtocolError where its bytes are no canonical object within the bounds."""
        longest = MAX_SMALL_BYTES if self.kind in SMALL_KINDS else MAX_BYTES
        body = canonical.decode(self.body_bytes, longest)
        if not isinstance(body, dict):
            raise ProtocolError("message.body: an object was expected")
        return body

    @cached_property
    def body_hash(self) -> bytes:
        """Return SHA-256 of the canonical body."""
        return hashlib.sha256(self.body_bytes).digest()

    def verify(self, key: VerificationKey) -> None:
        """Raise ProtocolError unless the key's owner signed this body as this kind of message."""
        verify_signature(key, self.kind, self.body_bytes, self.signature, self.sender)

    def with_body(self, body: Mapping[str, Json]) -> "Signed":
        """Return the message with another body under the same signature, which then does not verify."""
        return replace(self, body_bytes=canonical.encode(body))

    def to_json(self) -> dict[str, Json]:
        """Return the message as an object that can be put into another message."""
        return {"body": self.body, **self._envelope.to_body()}

    def encode(self) -> bytes:
        """Return the bytes on the wire."""
        return _OPENING[:_BODY] + self.body_bytes + b"," + canonical.encode(self._envelope.to_body())[1:]

    @property
    def _envelope(self) -> _Envelope:
        return _Envelope(kind=self.kind, sender=self.sender, signature=self.signature)

    @classmethod
    def from_json(cls, value: Json) -> "Signed":
        """Read a message out of another. Raises: ProtocolError."""
        body = value.get("body") if isinstance(value, Mapping) else None
        if not isinstance(value, Mapping) or not isinstance(body, Mapping):
            raise unexpected("message", "an object with a body was", value)
        rest: Json = {key: one for key, one in value.items() if key != "body"}
        message = _signed(_Envelope.from_body(rest), canonical.encode(body))
        vars(message)["body"] = body  # read already
        return message

    @classmethod
    def decode(cls, data: bytes) -> "Signed":
        """Read a message from the wire; the body is not parsed yet. Raises: ProtocolError."""
        cut = data.rfind(_REST)
        if not data.startswith(_OPENING) or cut < _BODY or len(data) - cut > MAX_ENVELOPE_BYTES:
            raise ProtocolError("message: not canonical JSON of a body, a sender, a kind and a signature")
        envelope = canonical.decode(b"{" + data[cut + 1 :], MAX_ENVELOPE_BYTES)
        return _signed(_Envelope.from_body(envelope), data[_BODY:cut])


class _Kind:
    def read(self, where: str, value: Json) -> Signed:
        if not isinstance(value, Mapping):
            raise unexpected(where, "a signed message was", value)
        return Signed.from_json(value)

    def write(self, value: object) -> Json:
        if not isinstance(value, Signed):
            raise mistyped("a signed message", value)
        return value.to_json()


Carried: TypeAlias = Annotated[Signed, _Kind()]
"""A signed message inside another, as it was signed."""


def _signed(envelope: _Envelope, body_bytes: bytes) -> Signed:
    return Signed(kind=envelope.kind, sender=envelope.sender, body_bytes=body_bytes, signature=envelope.signature)


def sign(identity: Identity, kind: str, body: Mapping[str, Json]) -> Signed:
    """Sign the body as a message of this kind."""
    body_bytes = canonical.encode(body)
    return Signed(kind=kind, sender=identity.party, body_bytes=body_bytes, signature=identity.sign(kind, body_bytes))
