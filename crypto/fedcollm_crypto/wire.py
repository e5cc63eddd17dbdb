"""Vectors on the wire: little-endian words of the ring's width, in chunks, never held twice."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.aggregation import Chunks
from fedcollm_crypto.errors import ProtocolError

CHUNK_WORDS = 1 << 15
"""Most words handled at a time: 256 KiB, which stays in a core's cache between the passes over it."""

CHUNK_BYTES = 1 << 17
"""Bytes of a chunk that is sent. With twice as many, copying one took as long as hashing it: fresh pages every time."""

MAX_MESSAGE_BYTES = 1 << 24
"""Longest message besides a vector: a hundred silos' shares take 0.1 MB; the rest is a guard against floods."""

Words = NDArray[np.uint64 | np.uint32]
"""Ring elements at their width on the wire."""

Octets = NDArray[np.uint8]
"""Bytes of an upload, whatever they stand for."""


def words(length: int, ring_bits: int) -> Words:
    """Return `length` zero words of the ring Z_2^32 or Z_2^64."""
    if ring_bits == 32:
        return np.zeros(length, dtype="<u4")
    if ring_bits == 64:
        return np.zeros(length, dtype="<u8")
    raise ValueError(f"ring_bits must be 32 or 64, got {ring_bits}")


def word_chunks(vector: NDArray[np.uint64], ring_bits: int) -> Iterator[Words]:
    """Yield the vector in writable copies of at most `CHUNK_BYTES`, reduced modulo the ring."""
    width = words(0, ring_bits).dtype
    step = CHUNK_BYTES // width.itemsize
    for start in range(0, len(vector), step):
        yield vector[start : start + step].astype(width)  # to 32 bits: reduced modulo 2^32


def fill(target: Words | Octets, chunks: Chunks) -> bytes:
    """Copy the first `target.nbytes` bytes of the chunks into `target`; return what follows them.

    Raises: ProtocolError when there are too few bytes, or more than `MAX_MESSAGE_BYTES` behind the vector.
    """
    room = target.data.cast("B") if len(target) else memoryview(b"")
    position, rest = 0, bytearray()
    for chunk in chunks:
        taken = min(len(chunk), len(room) - position)
        room[position : position + taken] = chunk[:taken]
        position += taken
        rest += chunk[taken:]
        if len(rest) > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"a vector is followed by more than {MAX_MESSAGE_BYTES} bytes")
    if position < len(room):
        raise ProtocolError(f"a vector of {len(room)} bytes was expected, the reply ends after {position}")
    return bytes(rest)


def join(chunks: Chunks) -> bytes:
    """Join the chunks of a message that is not a vector.

    Raises: ProtocolError when they exceed `MAX_MESSAGE_BYTES`.
    """
    message = bytearray()
    for chunk in chunks:
        message += chunk
        if len(message) > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"a message is longer than {MAX_MESSAGE_BYTES} bytes")
    return bytes(message)
