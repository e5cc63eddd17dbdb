"""A signed message: kind, sender, body, signature. Every message of the protocol is one."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from fedcollm_crypto import canonical
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.fields import Fields
from fedcollm_crypto.keys import (
    HYBRID_SIGNATURE_BYTES,
    SIGNATURE_BYTES,
    Identity,
    VerificationKey,
    verify_signature,
)


@dataclass(frozen=True, kw_only=True)
class Signed:
    """What a sender says it signed. Nothing in it is to be believed before `verify`."""

    kind: str
    sender: PartyId
    body: Mapping[str, Json]
    signature: bytes

    @cached_property
    def body_bytes(self) -> bytes:
        """Return the canonical bytes of the body."""
        return canonical.encode(self.body)

    @cached_property
    def body_hash(self) -> bytes:
        """Return SHA-256 of the canonical body."""
        return hashlib.sha256(self.body_bytes).digest()

    def verify(self, key: VerificationKey) -> None:
        """Raise ProtocolError unless the key's owner signed this body as this kind of message."""
        verify_signature(key, self.kind, self.body_bytes, self.signature, self.sender)

    def to_json(self) -> dict[str, Json]:
        """Return the message as an object that can be put into another message."""
        return {"body": self.body, "from": self.sender, "kind": self.kind, "signature": self.signature.hex()}

    def encode(self) -> bytes:
        """Return the bytes on the wire."""
        return canonical.encode(self.to_json())

    @classmethod
    def from_json(cls, value: Json) -> "Signed":
        """Read a message out of another. Raises: ProtocolError."""
        fields = Fields("message", value)
        message = cls(
            kind=fields.text("kind"),
            sender=fields.text("from"),
            body=fields.members("body"),
            signature=fields.octets("signature", SIGNATURE_BYTES, HYBRID_SIGNATURE_BYTES),
        )
        fields.close()
        return message

    @classmethod
    def decode(cls, data: bytes) -> "Signed":
        """Read a message from the wire. Raises: ProtocolError."""
        return cls.from_json(canonical.decode(data))


def sign(identity: Identity, kind: str, body: Mapping[str, Json]) -> Signed:
    """Sign the body as a message of this kind."""
    signature = identity.sign(kind, canonical.encode(body))
    return Signed(kind=kind, sender=identity.party, body=body, signature=signature)
