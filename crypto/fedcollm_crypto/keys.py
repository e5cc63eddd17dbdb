"""Identities: long-term keys, kept as PEM files, and what exactly they sign.

A signature covers `b"fedcollm/v1/<kind>\\0" + SHA-256(canonical body)`: a hello can never be taken for a consent.

A party may have an ML-DSA-44 key (FIPS 204) beside its Ed25519 key. It then signs everything with both, under a domain
of its own, so that neither half passes for a signature by itself; both must verify.
"""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from fedcollm_crypto import durable
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.errors import ProtocolError

SIGNATURE_DOMAIN = b"fedcollm/v1/"
HYBRID_DOMAIN = b"fedcollm/v1+mldsa44/"
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
MLDSA44_KEY_BYTES = 1312
HYBRID_SIGNATURE_BYTES = SIGNATURE_BYTES + 2420
"""The Ed25519 signature, then the ML-DSA-44 signature."""

_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_Y8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER = frozenset((0, 1, _P - 1, _Y8, _P - _Y8))
"""The y-coordinates of the eight points whose order divides 8: with one as key, one signature fits many messages."""

_PEM_BLOCK = re.compile(rb"-----BEGIN [A-Z ]+-----.+?-----END [A-Z ]+-----", re.DOTALL)

Randomness = Callable[[int], bytes]
"""Return that many unpredictable bytes: `secrets.token_bytes`, or fixed bytes in a test."""


@dataclass(frozen=True, kw_only=True)
class HybridPublicKey:
    """Both keys of a party that signs with both."""

    ed25519: Ed25519PublicKey
    mldsa44: MLDSA44PublicKey


VerificationKey = Ed25519PublicKey | HybridPublicKey


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A party's name and the private keys that speak for it: Ed25519, and ML-DSA-44 where it has one."""

    party: PartyId
    key: Ed25519PrivateKey = field(repr=False)
    mldsa44: MLDSA44PrivateKey | None = field(default=None, repr=False)

    @classmethod
    def generate(cls, party: PartyId, randomness: Randomness = os.urandom, *, post_quantum: bool = False) -> "Identity":
        """Draw a new key; for the post-quantum profile one of each kind."""
        key = Ed25519PrivateKey.from_private_bytes(randomness(32))
        return cls(
            party=party, key=key, mldsa44=MLDSA44PrivateKey.from_seed_bytes(randomness(32)) if post_quantum else None
        )

    @classmethod
    def load(cls, party: PartyId, path: Path, password: bytes | None = None) -> "Identity":
        """Read a PEM file of one or two PKCS#8 blocks: Ed25519, then ML-DSA-44.

        Raises: ValueError for keys of another kind or number, or a wrong password.
        """
        data = path.read_bytes()
        try:
            keys = [serialization.load_pem_private_key(block, password) for block in _PEM_BLOCK.findall(data) or [data]]
        except TypeError:
            raise ValueError(f"{path}: encrypted keys need a password, plain ones must have none") from None
        match keys:
            case [Ed25519PrivateKey() as key]:
                return cls(party=party, key=key)
            case [Ed25519PrivateKey() as key, MLDSA44PrivateKey() as mldsa44]:
                return cls(party=party, key=key, mldsa44=mldsa44)
            case _:
                raise ValueError(f"{path}: an Ed25519 private key was expected, and at most an ML-DSA-44 key behind it")

    def save(self, path: Path, password: bytes | None = None) -> None:
        """Write a PEM file of PKCS#8 blocks that its owner alone can read; encrypted when there is a password.

        Raises: FileExistsError rather than overwrite a key; NotWritten, and then there is none.
        """
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        keys: list[Ed25519PrivateKey | MLDSA44PrivateKey] = [self.key, *([self.mldsa44] if self.mldsa44 else [])]
        pem = [
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption) for key in keys
        ]
        durable.write_new(path, b"".join(pem), private=True)

    @property
    def public_key(self) -> bytes:
        """Return the 32 bytes of the Ed25519 key, which the roster lists."""
        return self.key.public_key().public_bytes_raw()

    @property
    def mldsa44_key(self) -> bytes:
        """Return the 1312 bytes of the ML-DSA-44 key, which the roster lists; empty where there is none."""
        return b"" if self.mldsa44 is None else self.mldsa44.public_key().public_bytes_raw()

    @property
    def public_keys(self) -> tuple[bytes, bytes]:
        """Return both public keys."""
        return self.public_key, self.mldsa44_key

    def sign(self, kind: str, body: bytes) -> bytes:
        """Return the signature over canonical bytes, as a message of this kind: 64 bytes, or 2484 with both keys.

        ML-DSA-44 signs with fresh randomness of the library's: the same body signed twice gives different bytes.
        """
        if self.mldsa44 is None:
            return self.key.sign(signing_input(kind, body))
        signed = signing_input(kind, body, HYBRID_DOMAIN)
        return self.key.sign(signed) + self.mldsa44.sign(signed)


def signing_input(kind: str, body: bytes, domain: bytes = SIGNATURE_DOMAIN) -> bytes:
    """Return the bytes that are signed: the domain, the kind of message, and the body's hash."""
    return domain + kind.encode() + b"\0" + hashlib.sha256(body).digest()


def check_ed25519(key: bytes) -> None:
    """Raise ValueError unless these 32 bytes are the one spelling of a point that a secret key can lead to.

    OpenSSL takes any bytes for an Ed25519 key (RFC 8032, 5.1.3): a y of p or more, which is another key's twin, bytes
    that are no point of the curve, and the points of small order.
    """
    if len(key) != PUBLIC_KEY_BYTES:
        raise ValueError(f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, got {len(key)}")
    y = int.from_bytes(key, "little") & (1 << 255) - 1  # the highest bit is the sign of x
    if y >= _P:
        raise ValueError("an Ed25519 public key is not spelt canonically: its y is not below 2^255 - 19")
    if y in _SMALL_ORDER:
        raise ValueError("an Ed25519 public key is a point of small order: anybody could sign for it")
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P  # x² (RFC 8032, 5.1.3)
    if pow(square, (_P - 1) // 2, _P) != 1:
        raise ValueError("an Ed25519 public key is no point of the curve")


def verification_key(ed25519: bytes, mldsa44: bytes = b"") -> VerificationKey:
    """Return the key for `verify_signature`. Raises: ValueError for another length, or what `check_ed25519` refuses."""
    check_ed25519(ed25519)
    key = Ed25519PublicKey.from_public_bytes(ed25519)
    if not mldsa44:
        return key
    return HybridPublicKey(ed25519=key, mldsa44=MLDSA44PublicKey.from_public_bytes(mldsa44))


def verify_signature(key: VerificationKey, kind: str, body: bytes, signature: bytes, who: str) -> None:
    """Raise ProtocolError unless `who` signed this body as this kind of message: with each key that it has."""
    try:
        if isinstance(key, HybridPublicKey):
            signed = signing_input(kind, body, HYBRID_DOMAIN)
            key.ed25519.verify(signature[:SIGNATURE_BYTES], signed)
            key.mldsa44.verify(signature[SIGNATURE_BYTES:], signed)
        else:
            key.verify(signature, signing_input(kind, body))
    except InvalidSignature:
        raise ProtocolError(f"the signature of {who} under a message of kind {kind} does not verify") from None
