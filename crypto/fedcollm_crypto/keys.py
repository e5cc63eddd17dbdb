"""Identities: long-term Ed25519 keys, kept as PEM files, and what exactly they sign.

A signature covers `b"fedcollm/v1/<kind>\\0" + SHA-256(canonical body)`: a hello can never be taken for a consent.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.errors import ProtocolError

SIGNATURE_DOMAIN = b"fedcollm/v1/"
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64

Randomness = Callable[[int], bytes]
"""Return that many unpredictable bytes: `secrets.token_bytes`, or fixed bytes in a test."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A party's name and the private key that speaks for it."""

    party: PartyId
    key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, party: PartyId, randomness: Randomness = os.urandom) -> "Identity":
        """Draw a new key."""
        return cls(party=party, key=Ed25519PrivateKey.from_private_bytes(randomness(32)))

    @classmethod
    def load(cls, party: PartyId, path: Path, password: bytes | None = None) -> "Identity":
        """Read a PKCS#8 PEM file. Raises: ValueError for another kind of key or a wrong password."""
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password)
        except TypeError:
            raise ValueError(f"{path}: encrypted keys need a password, plain ones must have none") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{path}: an Ed25519 private key was expected")
        return cls(party=party, key=key)

    def save(self, path: Path, password: bytes | None = None) -> None:
        """Write a PKCS#8 PEM file that its owner alone can read; encrypted when there is a password.

        Raises: FileExistsError rather than overwrite a key.
        """
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        pem = self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)

    @property
    def public_key(self) -> bytes:
        """Return the 32 bytes that the roster lists."""
        return self.key.public_key().public_bytes_raw()

    def sign(self, kind: str, body: bytes) -> bytes:
        """Return the 64-byte signature over canonical bytes, as a message of this kind."""
        return self.key.sign(signing_input(kind, body))


def signing_input(kind: str, body: bytes) -> bytes:
    """Return the bytes that are signed: the domain, the kind of message, and the body's hash."""
    return SIGNATURE_DOMAIN + kind.encode() + b"\0" + hashlib.sha256(body).digest()


def verify_signature(key: Ed25519PublicKey, kind: str, body: bytes, signature: bytes, who: str) -> None:
    """Raise ProtocolError unless `who` signed this body as this kind of message."""
    try:
        key.verify(signature, signing_input(kind, body))
    except InvalidSignature:
        raise ProtocolError(f"the signature of {who} under a message of kind {kind} does not verify") from None
