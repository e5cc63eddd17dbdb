"""A masked vector inside ciphertexts: the masks of `masking` drawn in Z_t, the lattice of BFV around them.

    silo    x → signed integers → slots → + PRG_t(masks) mod t → encrypt → residues → wire
    server  residues → add modulo q → … → opened slots → − PRG_t(masks) mod t → integers in range? → words of the ring

Two locks of different kinds: the server adds without a key, the decryptor opens one sum and sees uniform values.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.aggregation import Vector
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.fixedpoint import ring_words, signed_words
from fedcollm_crypto.homomorphic.ciphertext_buffer import Spool
from fedcollm_crypto.homomorphic.packing import Packing
from fedcollm_crypto.homomorphic.residues import Residues, add_into, from_wire, split, to_wire, wire_bytes
from fedcollm_crypto.homomorphic.worker import CALL_ROWS, Box, tell_nobody
from fedcollm_crypto.masking.manifest import Quantisation
from fedcollm_crypto.masking.masks import MaskKeys
from fedcollm_crypto.stream import KeyStream
from fedcollm_crypto.wire import CHUNK_WORDS, Octets


class ModularStream:
    """A keystream as integers uniform below t: of each word the low bits, and those of t or more are skipped.

    Guarantee: uniform in Z_t if the stream's words are uniform: rejection, not reduction. The same key gives the same
    integers however they are read.
    """

    def __init__(self, key: bytes, modulus: int) -> None:
        """Start the stream of a 32-byte key."""
        self._stream = KeyStream(key)
        self._modulus = np.uint64(modulus)
        self._low_bits = np.uint64((1 << modulus.bit_length()) - 1)

    def read_into(self, chunk: NDArray[np.uint64]) -> None:
        """Overwrite the chunk, at most `CHUNK_WORDS` words, with the next integers."""
        filled = 0
        while filled < len(chunk):
            rest = chunk[filled:]
            self._stream.read_into(rest)
            np.bitwise_and(rest, self._low_bits, out=rest)
            accepted = rest < self._modulus
            if accepted.all():
                return
            kept = rest[accepted]
            rest[: len(kept)] = kept
            filled += len(kept)


class _ModularMasks:
    """All masks of one vector of slots, read in step."""

    def __init__(self, keys: MaskKeys, modulus: int) -> None:
        self._plus = [ModularStream(key, modulus) for key in keys.plus]
        self._minus = [ModularStream(key, modulus) for key in keys.minus]
        self._modulus = np.uint64(modulus)
        self._scratch = np.empty(CHUNK_WORDS, dtype=np.uint64)

    def apply(self, slots: NDArray[np.uint64]) -> None:
        """Add and subtract the next masks in place, modulo t; at most 2^16 of them, so that nothing wraps."""
        scratch = self._scratch[: len(slots)]
        for stream in self._plus:
            stream.read_into(scratch)
            np.add(slots, scratch, out=slots)
        for stream in self._minus:
            stream.read_into(scratch)
            np.add(slots, self._modulus - scratch, out=slots)
        np.remainder(slots, self._modulus, out=slots)


class CiphertextSilo:
    """Encrypt a masked vector under the decryptor's key, ciphertext by ciphertext."""

    def __init__(
        self,
        quantisation: Quantisation,
        packing: Packing,
        box: Box,
        modulus: int,
        progress: Callable[[int, int], None] = tell_nobody,
    ) -> None:
        """Take the public key in `box`; `modulus` is t; `progress` is told (done, of) ciphertexts."""
        self._progress = progress
        self._ring_bits = quantisation.ring_bits
        self._packing = packing
        self._box = box
        self._modulus = modulus
        self._kept = Spool()
        self._sizes: list[int] = []

    def chunks(self, vector: Vector, masks: MaskKeys) -> Iterator[bytes]:
        """Yield the ciphertexts; asked again, the same ones: a second encryption would be other bytes."""
        slots = self._packing.pack(signed_words(vector, self._ring_bits))
        streams = _ModularMasks(masks, self._modulus)
        self._kept.rewind()
        for index, start in enumerate(range(0, len(slots), CALL_ROWS)):
            rows = _reduced(slots[start : start + CALL_ROWS], self._modulus)
            for row in rows:
                for at in range(0, len(row), CHUNK_WORDS):
                    streams.apply(row[at : at + CHUNK_WORDS])
            yield self._kept.read(self._sizes[index]) if index < len(self._sizes) else self._encrypt(rows)
            self._progress(start + len(rows), len(slots))

    def _encrypt(self, rows: NDArray[np.uint64]) -> bytes:
        residues = self._box.encrypt(_centred(rows, self._modulus))
        data = b"".join(to_wire(row) for row in residues.reshape(-1, self._box.coefficients))
        self._kept.write(data)
        self._sizes.append(len(data))
        return data


class CiphertextServer:
    """Add ciphertexts modulo q, hand their sum to the decryptor, take the masks off what it opens."""

    def __init__(self, quantisation: Quantisation, packing: Packing, prime: int, modulus: int) -> None:
        """Start at zero; `prime` is q, `modulus` t."""
        self._quantisation = quantisation
        self._packing = packing
        self._modulus = modulus
        self._opened: NDArray[np.uint64] | None = None
        self.total = CiphertextSum(packing, quantisation.length, prime)
        self.scratch: Octets = np.empty(self.total.wire_bytes, dtype=np.uint8)

    def add(self) -> None:
        """Add the ciphertexts in `scratch`. Raises: ProtocolError for a coefficient that is not below q."""
        self.total.add(self.scratch.data)

    def take_opened(self, slots: NDArray[np.uint64]) -> None:
        """Take what the decryptor opened: uint64[ciphertexts · slots], below t. Raises: ProtocolError."""
        if slots.max(initial=0) >= self._modulus:
            raise ProtocolError("the decryptor returned a value that is not below the plaintext modulus")
        self._opened = slots

    def open(self, masks: MaskKeys) -> Vector:
        """Take the masks off and check the range. Raises: ProtocolError; nothing is released then."""
        if self._opened is None:
            raise RuntimeError("the decryptor has not opened the sum")
        slots = self._opened
        streams = _ModularMasks(MaskKeys(plus=masks.minus, minus=masks.plus), self._modulus)
        degree = self._packing.scheme.slots  # masks were drawn ciphertext by ciphertext
        for row in slots.reshape(-1, degree):
            for at in range(0, degree, CHUNK_WORDS):
                streams.apply(row[at : at + CHUNK_WORDS])
        values = self._packing.unpack(_centred(slots, self._modulus), self._quantisation.length)
        return ring_words(values, self._quantisation.ring_bits)


class CiphertextSum:
    """A running sum of ciphertexts as residues modulo q: no key, no homomorphic library."""

    def __init__(self, packing: Packing, length: int, prime: int) -> None:
        """Start at zero, with as many ciphertexts as a vector of this length needs."""
        self._prime = prime
        self._each = 2 * packing.scheme.lattice.degree  # two polynomials
        self._rows = np.zeros((packing.ciphertexts(length), self._each), dtype=np.uint64)

    @property
    def wire_bytes(self) -> int:
        """Return the bytes of one upload, and of the sum."""
        return len(self._rows) * wire_bytes(self._each)

    def add(self, upload: bytes | memoryview) -> None:
        """Add an upload's ciphertexts. Raises: ProtocolError; the sum is then as it was."""
        pieces = list(split(upload, wire_bytes(self._each)))
        if len(pieces) != len(self._rows):
            raise ProtocolError(f"an upload has {len(self._rows)} ciphertexts, got {len(pieces)}")
        added: list[Residues] = []
        for piece in pieces:
            added.append(from_wire(piece, self._prime, self._each))
        for row, residues in zip(self._rows, added, strict=True):
            add_into(row, residues, self._prime)

    def to_wire(self) -> bytes:
        """Return the sum for the wire."""
        return b"".join(to_wire(row) for row in self._rows)

    def residues(self) -> Residues:
        """Return the sum as uint64[k · coefficients]."""
        return self._rows.reshape(-1)


def read_ciphertexts(data: bytes | memoryview, prime: int, each: int) -> Residues:
    """Return the residues of several ciphertexts. Raises: ProtocolError."""
    parts: Sequence[Residues] = [from_wire(piece, prime, each) for piece in split(data, wire_bytes(each))]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint64)


def _reduced(slots: NDArray[np.int64], modulus: int) -> NDArray[np.uint64]:
    """Return signed integers modulo t."""
    return np.remainder(slots, modulus).astype(np.uint64)


def _centred(slots: NDArray[np.uint64], modulus: int) -> NDArray[np.int64]:
    """Return the representatives in (−t/2, t/2]."""
    t = np.uint64(modulus)
    centred: NDArray[np.int64] = np.where(slots > t // np.uint64(2), slots - t, slots).view(np.int64)
    return centred
