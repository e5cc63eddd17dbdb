"""The mask generator: AES-256 in counter mode as a stream of ring words.

One key makes one stream, and a key is never used for two purposes: it comes out of HKDF under a label that names the
pair, the round and the use. That is why the counter may start at zero.
"""

from collections.abc import Iterator

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from fedcollm_crypto.wire import CHUNK_WORDS, Words

KEY_BYTES = 32
_ZEROS = memoryview(bytes(CHUNK_WORDS * 8))


class KeyStream:
    """One keystream, read from its beginning (SP 800-38A, CTR with a zero initial counter block).

    Guarantee: to anyone without the key the words are indistinguishable from uniform ring elements, if AES-256 is a
    pseudorandom permutation and the key is uniform and used here alone.
    """

    def __init__(self, key: bytes) -> None:
        """Start the stream of a 32-byte key."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"a stream key has {KEY_BYTES} bytes, got {len(key)}")
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def read_into(self, chunk: Words) -> None:
        """Overwrite the chunk, at most `CHUNK_WORDS` words, with the next bytes of the stream, little-endian."""
        if len(chunk):
            self._encryptor.update_into(_ZEROS[: chunk.nbytes], chunk.data.cast("B"))


def keystream(key: bytes, length: int) -> Iterator[NDArray[np.uint64]]:
    """Yield `length` words of the key's stream as uint64, in fresh chunks of at most `CHUNK_WORDS`."""
    stream = KeyStream(key)
    for start in range(0, length, CHUNK_WORDS):
        chunk = np.empty(min(CHUNK_WORDS, length - start), dtype="<u8")
        stream.read_into(chunk)
        yield chunk
