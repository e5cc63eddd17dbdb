"""What silos say where no masks are inside: first a commitment, then the ciphertexts, sealed to the trustee.

Homomorphic encryption is malleable: a silo that sees others' ciphertexts before it makes its own can subtract them, and
the sum is its victim's update alone. So every silo signs a hash of its ciphertexts, and sees everybody's, before any
ciphertext leaves; and what then leaves, the trustee alone can open.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from cryptography.hazmat.primitives.hashes import SHA256, Hash

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.derivation import HASH_BYTES, digest, labelled
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.fields import Fields
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.signed import Signed

CIPHERTEXTS_LABEL = b"fedcollm/v1/he-ciphertexts"
COMMITMENTS_LABEL = b"fedcollm/v1/he-commitments"
PIECE_LABEL = b"fedcollm/v1/he-sealed-piece"

COMMIT_REQUEST, SEND_REQUEST = "he-commit-request", "he-send-request"
"""A manifest behind the trustee's key; and a `Relay` of all commitments."""


@dataclass(frozen=True, kw_only=True)
class Commitment:
    """A silo's hash of its ciphertexts under this manifest, before it saw anybody else's."""

    KIND: ClassVar[str] = "he-commitment"
    manifest_hash: bytes
    ciphertexts_hash: bytes

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        return {"ciphertexts_hash": self.ciphertexts_hash.hex(), "manifest_hash": self.manifest_hash.hex()}

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields(cls.KIND, body)
        message = cls(
            manifest_hash=fields.octets("manifest_hash", HASH_BYTES),
            ciphertexts_hash=fields.octets("ciphertexts_hash", HASH_BYTES),
        )
        fields.close()
        return message


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A silo sent its sealed ciphertexts, having seen exactly these commitments."""

    KIND: ClassVar[str] = "he-sent"
    manifest_hash: bytes
    commitments_hash: bytes

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        return {"commitments_hash": self.commitments_hash.hex(), "manifest_hash": self.manifest_hash.hex()}

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields(cls.KIND, body)
        message = cls(
            manifest_hash=fields.octets("manifest_hash", HASH_BYTES),
            commitments_hash=fields.octets("commitments_hash", HASH_BYTES),
        )
        fields.close()
        return message


@dataclass(frozen=True, kw_only=True)
class Deposit:
    """The server brings the trustee one silo's sealed ciphertexts, with what that silo signed."""

    KIND: ClassVar[str] = "he-deposit"
    manifest: RoundManifest
    commitment: Signed
    sent: Signed

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        return {
            "commitment": self.commitment.to_json(),
            "manifest": self.manifest.to_body(),
            "sent": self.sent.to_json(),
        }

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields(cls.KIND, body)
        message = cls(
            manifest=RoundManifest.from_body(fields.members("manifest")),
            commitment=Signed.from_json(fields.members("commitment")),
            sent=Signed.from_json(fields.members("sent")),
        )
        fields.close()
        return message


@dataclass(frozen=True, kw_only=True)
class Received:
    """The trustee has added this silo's ciphertexts."""

    KIND: ClassVar[str] = "he-received"
    manifest_hash: bytes
    silo: PartyId

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        return {"manifest_hash": self.manifest_hash.hex(), "silo": self.silo}

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields(cls.KIND, body)
        message = cls(manifest_hash=fields.octets("manifest_hash", HASH_BYTES), silo=fields.text("silo"))
        fields.close()
        return message


def ciphertexts_hasher() -> Hash:
    """Return a hash object to feed ciphertexts to, as they travel."""
    hasher = Hash(SHA256())
    hasher.update(labelled(CIPHERTEXTS_LABEL))
    return hasher


def commitments_hash(signed: Mapping[PartyId, Signed]) -> bytes:
    """Return the hash of all commitments, in order of their senders."""
    return digest(COMMITMENTS_LABEL, *(part for p in sorted(signed) for part in (p.encode(), signed[p].body_hash)))


def piece_context(manifest_hash: bytes, sender: PartyId, index: int) -> bytes:
    """Return what a sealed ciphertext is bound to: round, sender and place."""
    return labelled(PIECE_LABEL, manifest_hash, sender.encode(), index.to_bytes(8, "big"))


def commitments_of(messages: Iterable[Signed]) -> dict[PartyId, Signed]:
    """Return commitments by sender. Raises: ProtocolError for another kind, or two of one sender."""
    listed = list(messages)
    by_sender = {message.sender: message for message in listed if message.kind == Commitment.KIND}
    if len(by_sender) != len(listed):
        raise ProtocolError("one commitment for each silo was expected, and nothing else")
    return by_sender
