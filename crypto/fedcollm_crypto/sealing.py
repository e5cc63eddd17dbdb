"""Boxes that one silo can open: ChaCha20-Poly1305 (RFC 8439) under a key of its own for each direction.

An X25519 secret is the same on both ends; without the direction in the key, both would encrypt under one key.
"""

from typing import Annotated, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.derivation import derive_key
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import PUBLIC_KEY_BYTES, Randomness
from fedcollm_crypto.kinds import Octets

BOX_LABEL = b"fedcollm/v1/share-box"
NONCE_BYTES = 12
_P = 2**255 - 19
OVERHEAD_BYTES = NONCE_BYTES + 16


def x25519_key(public: bytes, who: str) -> X25519PublicKey:
    """Return the X25519 key that these 32 bytes spell canonically.

    RFC 7748 ignores the highest bit and reduces modulo 2^255 − 19, so that a key has twins, which differ in their
    bytes and not in the secrets made with them: a list of distinct keys would not be one.
    Raises: ProtocolError for another length, or for a twin of `who`.
    """
    if len(public) != PUBLIC_KEY_BYTES or int.from_bytes(public, "little") >= _P:
        raise ProtocolError(f"the key of {who} is not spelt canonically: 32 bytes below 2^255 - 19 were expected")
    return X25519PublicKey.from_public_bytes(public)


X25519Public: TypeAlias = Annotated[bytes, Octets(PUBLIC_KEY_BYTES, check=x25519_key)]


def agree(private: X25519PrivateKey, public: bytes, who: str) -> bytes:
    """Return the X25519 secret (RFC 7748). Raises: ProtocolError for a low-order key of `who`, or a key's twin."""
    key = x25519_key(public, who)
    try:
        return private.exchange(key)
    except ValueError:
        raise ProtocolError(f"the key of {who} is of low order: every secret made with it would be zero") from None


def box_key(shared: bytes, transcript: bytes, sender: PartyId, recipient: PartyId) -> bytes:
    """Return the key of the boxes from sender to recipient in the round of this transcript."""
    return derive_key(shared, salt=transcript, label=BOX_LABEL, parts=(sender.encode(), recipient.encode()))


def seal(key: bytes, plaintext: bytes, context: bytes, randomness: Randomness) -> bytes:
    """Return nonce ‖ ciphertext; it opens only beside the same context."""
    nonce = randomness(NONCE_BYTES)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, plaintext, context)


def unseal(key: bytes, box: bytes, context: bytes) -> bytes:
    """Return the plaintext. Raises: ProtocolError for a box made with another key or context, or changed since."""
    try:
        return ChaCha20Poly1305(key).decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], context)
    except (InvalidTag, ValueError):
        raise ProtocolError("a box of shares does not open") from None
