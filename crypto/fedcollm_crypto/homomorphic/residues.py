"""Ciphertexts as what they are: two polynomials with coefficients below q. Nothing else ever crosses the wire.

No container, no header, no scale, no length field: a sender strips the library's format, a receiver checks that there
are exactly so many coefficients, each below q, and puts its own container round them. What TenSEAL would trust in
foreign bytes is not there. Adding ciphertexts is adding coefficients modulo q, so the party that adds up needs no
homomorphic library at all.

A coefficient takes 60 bits: two in 15 bytes.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.errors import ProtocolError

Residues = NDArray[np.uint64]
"""uint64[k]: coefficients below q, polynomial after polynomial."""

_LOW_BYTES, _HIGH_BYTES = 8, 7
_BLOCK = 1 << 15


def wire_bytes(coefficients: int) -> int:
    """Return how many bytes an even number of coefficients takes."""
    return coefficients // 2 * (_LOW_BYTES + _HIGH_BYTES)


def to_wire(residues: Residues) -> bytes:
    """Return 15 bytes for each two coefficients: the low 64 bits of all pairs, then the high 56."""
    even, odd = residues[0::2], residues[1::2]
    low = even | (odd << np.uint64(60))
    high = (odd >> np.uint64(4)).astype("<u8").view(np.uint8).reshape(-1, 8)[:, :_HIGH_BYTES]
    return low.astype("<u8", copy=False).tobytes() + high.tobytes()


def from_wire(data: bytes | memoryview, prime: int, coefficients: int) -> Residues:
    """Return the coefficients. Raises: ProtocolError for another number of bytes, or a coefficient of q or above."""
    if len(data) != wire_bytes(coefficients):
        raise ProtocolError(f"a ciphertext has {wire_bytes(coefficients)} bytes, got {len(data)}")
    pairs = coefficients // 2
    low = np.frombuffer(data, dtype="<u8", count=pairs)
    high = np.zeros((pairs, 8), dtype=np.uint8)
    high[:, :_HIGH_BYTES] = np.frombuffer(data, dtype=np.uint8, offset=pairs * _LOW_BYTES).reshape(-1, _HIGH_BYTES)
    residues = np.empty(coefficients, dtype=np.uint64)
    residues[0::2] = low & np.uint64((1 << 60) - 1)
    residues[1::2] = (high.view("<u8").reshape(-1) << np.uint64(4)) | (low >> np.uint64(60))
    require_reduced(residues, prime)
    return residues


def require_reduced(residues: Residues, prime: int) -> None:
    """Raise ProtocolError unless every coefficient is below q."""
    if residues.max(initial=0) >= prime:
        raise ProtocolError("a ciphertext has a coefficient that is not below the prime")


def add_into(total: Residues, other: Residues, prime: int) -> None:
    """Add coefficients modulo q in place: the sum of two ciphertexts, exactly as SEAL's evaluator computes it."""
    q = np.uint64(prime)
    for start in range(0, len(total), _BLOCK):  # in blocks that stay in the cache
        chunk = total[start : start + _BLOCK]
        np.add(chunk, other[start : start + _BLOCK], out=chunk)  # below 2^61: no wrap
        np.minimum(chunk, chunk - q, out=chunk)  # where chunk < q, chunk - q wraps above it


def split(data: bytes | memoryview, size: int) -> Iterator[memoryview]:
    """Yield pieces of `size` bytes. Raises: ProtocolError when something is left over."""
    view = memoryview(data)
    if len(view) % size:
        raise ProtocolError(f"{len(view)} bytes are not a whole number of ciphertexts")
    for start in range(0, len(view), size):
        yield view[start : start + size]
