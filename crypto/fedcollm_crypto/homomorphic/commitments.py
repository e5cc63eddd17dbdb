"""What silos say where no masks are inside: first a commitment, then the ciphertexts, sealed to the trustee.

Homomorphic encryption is malleable: a silo that sees others' ciphertexts before it makes its own can subtract them, and
the sum is its victim's update alone. So every silo signs a hash of its ciphertexts, and sees everybody's, before any
ciphertext leaves; and what then leaves, the trustee alone can open.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from cryptography.hazmat.primitives.hashes import SHA256, Hash

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.declared import Declared
from fedcollm_crypto.derivation import digest, labelled
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.kinds import Sha256
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.signed import Carried, Signed

CIPHERTEXTS_LABEL = b"fedcollm/v1/he-ciphertexts"
COMMITMENTS_LABEL = b"fedcollm/v1/he-commitments"
PIECE_LABEL = b"fedcollm/v1/he-sealed-piece"

COMMIT_REQUEST, SEND_REQUEST = "he-commit-request", "he-send-request"
"""A manifest behind the trustee's key; and a `Relay` of all commitments."""


@dataclass(frozen=True, kw_only=True)
class Commitment(Declared):
    """A silo's hash of its ciphertexts under this manifest, before it saw anybody else's."""

    KIND: ClassVar[str] = "he-commitment"
    manifest_hash: Sha256
    ciphertexts_hash: Sha256


@dataclass(frozen=True, kw_only=True)
class Sent(Declared):
    """A silo sent its sealed ciphertexts, having seen exactly these commitments."""

    KIND: ClassVar[str] = "he-sent"
    manifest_hash: Sha256
    commitments_hash: Sha256


@dataclass(frozen=True, kw_only=True)
class Deposit(Declared):
    """The server brings the trustee one silo's sealed ciphertexts, with what that silo signed."""

    KIND: ClassVar[str] = "he-deposit"
    manifest: RoundManifest
    commitment: Carried
    sent: Carried


@dataclass(frozen=True, kw_only=True)
class Received(Declared):
    """The trustee has added this silo's ciphertexts."""

    KIND: ClassVar[str] = "he-received"
    manifest_hash: Sha256
    silo: PartyId


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
