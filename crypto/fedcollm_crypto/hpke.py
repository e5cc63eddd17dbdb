"""Boxes for the post-quantum profile: HPKE (RFC 9180) in base mode, one encapsulation for each box.

`seal_hybrid` stays shut while either X25519 or ML-KEM-768 (FIPS 203) holds, `seal_kem` while ML-KEM-768 does. Every box
has a key of its own, so both directions of a pair never share one; the context goes in as HPKE's `info`, which the key
is derived with, so that a box opens only beside the same context. The public API has no other place for it.

Base mode does not say who sealed a box: whoever opens one checks the sender's signature over it first. Encapsulation
draws from the library's generator; there is no way to hand it randomness.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.sealing import x25519_key

KEM_KEY_BYTES = 1184
KEM_SEED_BYTES = 64
KEM_OVERHEAD_BYTES = 1088 + 16
HYBRID_OVERHEAD_BYTES = 1088 + 32 + 16
CLASSICAL_OVERHEAD_BYTES = 32 + 16

_KEM = Suite(KEM.MLKEM768, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_CLASSICAL = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_HYBRID = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def kem_key(public: bytes, who: str) -> MLKEM768PublicKey:
    """Return the ML-KEM-768 key. Raises: ProtocolError for bytes that are none (FIPS 203, 7.2)."""
    try:
        return MLKEM768PublicKey.from_public_bytes(public)
    except ValueError:
        raise ProtocolError(f"the ML-KEM-768 key of {who} is not one") from None


def seal_kem(public: bytes, plaintext: bytes, context: bytes, who: str) -> bytes:
    """Return encapsulation ‖ ciphertext for the ML-KEM-768 key of `who`. Raises: ProtocolError for a bad key."""
    return _KEM.encrypt(plaintext, kem_key(public, who), context)


def open_kem(private: MLKEM768PrivateKey, box: bytes, context: bytes) -> bytes:
    """Return the plaintext. Raises: ProtocolError for a box to another key or context, or changed since."""
    try:
        return _KEM.decrypt(box, private, context)
    except InvalidTag:
        raise ProtocolError("a sealed mask secret does not open") from None


def seal_hybrid(public: tuple[bytes, bytes], plaintext: bytes, context: bytes, who: str) -> bytes:
    """Return encapsulation ‖ ciphertext for the ML-KEM-768 and X25519 keys of `who`.

    Raises: ProtocolError for a key that is none, of low order, or a twin.
    """
    mlkem768, x25519 = public
    keys = MLKEM768X25519PublicKey(kem_key(mlkem768, who), x25519_key(x25519, who))
    try:
        return _HYBRID.encrypt(plaintext, keys, context)
    except ValueError:
        raise ProtocolError(f"the key of {who} is of low order: every secret made with it would be zero") from None


def open_hybrid(private: tuple[MLKEM768PrivateKey, X25519PrivateKey], box: bytes, context: bytes) -> bytes:
    """Return the plaintext. Raises: ProtocolError for a box to other keys or context, or changed since."""
    try:
        return _HYBRID.decrypt(box, MLKEM768X25519PrivateKey(*private), context)
    except InvalidTag:
        raise ProtocolError("a box of shares does not open") from None


def seal_classical(public: bytes, plaintext: bytes, context: bytes, who: str) -> bytes:
    """Return encapsulation ‖ ciphertext for the X25519 key of `who`.

    Raises: ProtocolError for a low-order key, or a twin.
    """
    key = x25519_key(public, who)
    try:
        return _CLASSICAL.encrypt(plaintext, key, context)
    except ValueError:
        raise ProtocolError(f"the key of {who} is of low order: every secret made with it would be zero") from None


def open_classical(private: X25519PrivateKey, box: bytes, context: bytes) -> bytes:
    """Return the plaintext. Raises: ProtocolError for a box to another key or context, or changed since."""
    try:
        return _CLASSICAL.decrypt(box, private, context)
    except InvalidTag:
        raise ProtocolError("a sealed ciphertext does not open") from None
