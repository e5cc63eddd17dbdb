"""Labels, hashes and keys: every use of a secret has a name with a version, and no two uses share one."""

import hashlib

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HASH_BYTES = 32


def labelled(label: bytes, *parts: bytes) -> bytes:
    """Return the label and the parts, each with its length before it, so that no two lists give the same bytes."""
    return label + b"\0" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def digest(label: bytes, *parts: bytes) -> bytes:
    """Return SHA-256 over the labelled parts; a commitment, when the parts hold a secret of 256 bits or more."""
    return hashlib.sha256(labelled(label, *parts)).digest()


def derive_key(secret: bytes, *, salt: bytes, label: bytes, parts: tuple[bytes, ...], length: int = 32) -> bytes:
    """Return `length` bytes of HKDF-SHA256 (RFC 5869) with `info` = the labelled parts."""
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=labelled(label, *parts)).derive(secret)
