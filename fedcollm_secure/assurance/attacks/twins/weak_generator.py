"""A mask generator as found in practice: a 256-bit seed folded to a few bits, and fed to the Mersenne Twister.

The flaw: whoever knows a few words of the stream, or only that the words under it are small, tries all seeds.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 32


def folded(seed: bytes, bits: int) -> int:
    """Return the seed's hash, folded to `bits` (in practice 32; less makes the search a toy)."""
    value = int.from_bytes(hashlib.sha256(seed).digest(), "big")
    result = 0
    while value:
        result ^= value & ((1 << bits) - 1)
        value >>= bits
    return result


def weak_stream(seed: bytes, length: int, bits: int) -> NDArray[np.uint32]:
    """Return uint32[length] of mask."""
    return twister(folded(seed, bits), length)


def twister(number: int, length: int) -> NDArray[np.uint32]:
    """Return the first words of MT19937 for one 32-bit seed."""
    generator = np.random.RandomState(number)
    return generator.randint(0, 1 << WORD_BITS, length, dtype=np.uint32)
