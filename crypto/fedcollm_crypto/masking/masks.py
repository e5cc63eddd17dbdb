"""Adding and removing masks, chunk by chunk: all streams pass over a chunk while it is in the cache."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedcollm_crypto.aggregation import Vector
from fedcollm_crypto.stream import KeyStream
from fedcollm_crypto.wire import CHUNK_WORDS, Words, word_chunks, words


@dataclass(frozen=True, kw_only=True)
class MaskKeys:
    """Keys of the streams that are added, and of those that are subtracted."""

    plus: Sequence[bytes] = field(repr=False)
    minus: Sequence[bytes] = field(repr=False)


class _Masks:
    """All streams of one vector, read in step."""

    def __init__(self, keys: MaskKeys, ring_bits: int) -> None:
        self._plus = [KeyStream(key) for key in keys.plus]
        self._minus = [KeyStream(key) for key in keys.minus]
        self._scratch = words(CHUNK_WORDS, ring_bits)

    def apply(self, chunk: Words) -> None:
        """Add and subtract the next words of every stream; numpy's unsigned integers wrap as the ring does."""
        scratch = self._scratch[: len(chunk)]
        for stream in self._plus:
            stream.read_into(scratch)
            np.add(chunk, scratch, out=chunk)
        for stream in self._minus:
            stream.read_into(scratch)
            np.subtract(chunk, scratch, out=chunk)


def masked_chunks(vector: Vector, ring_bits: int, keys: MaskKeys) -> Iterator[Words]:
    """Yield the masked vector in chunks; the vector itself stays as it is, and no second one is made."""
    masks = _Masks(keys, ring_bits)
    for chunk in word_chunks(vector, ring_bits):
        masks.apply(chunk)
        yield chunk


def remove_masks(total: Words, ring_bits: int, keys: MaskKeys) -> None:
    """Subtract in place what `keys.plus` added, and add what `keys.minus` subtracted."""
    masks = _Masks(MaskKeys(plus=keys.minus, minus=keys.plus), ring_bits)
    for start in range(0, len(total), CHUNK_WORDS):
        masks.apply(total[start : start + CHUNK_WORDS])
