import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcollm_crypto.stream import KeyStream, keystream
from fedcollm_crypto.wire import CHUNK_WORDS, words


def whole(key: bytes, count: int) -> bytes:
    return b"".join(chunk.tobytes() for chunk in keystream(key, count))


def test_the_stream_is_aes_256_of_a_counter():
    key, counters = bytes(range(32)), b"".join(i.to_bytes(16, "big") for i in range(4))
    ecb = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - the definition of CTR, spelled out

    assert whole(key, 8) == ecb.update(counters)


def test_the_first_block_matches_the_published_vector():
    # FIPS 197, C.3: AES-256 of 00112233…ff under 000102…1f; here by way of the block whose counter is zero:
    # NIST AESAVS, KeySbox-like all-zero key and block, AES-256.
    assert whole(bytes(32), 2).hex() == "dc95c078a2408989ad48a21492842087"


@settings(max_examples=20)
@given(st.binary(min_size=32, max_size=32), st.lists(st.integers(0, 40), max_size=10))
def test_the_stream_does_not_depend_on_how_it_is_read(key: bytes, lengths: list[int]):
    stream, pieces = KeyStream(key), []
    for length in lengths:
        piece = words(length, 64)
        stream.read_into(piece)
        pieces.append(piece.tobytes())

    assert b"".join(pieces) == whole(key, sum(lengths))


def test_a_long_stream_is_cut_into_chunks_without_a_seam():
    key, length = b"k" * 32, CHUNK_WORDS + 3
    expected = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(8 * length))

    assert [len(chunk) for chunk in keystream(key, length)] == [CHUNK_WORDS, 3]
    assert whole(key, length) == expected


def test_narrow_words_are_the_same_bytes():
    narrow = words(8, 32)
    KeyStream(b"k" * 32).read_into(narrow)

    assert narrow.tobytes() == whole(b"k" * 32, 4)


def test_the_bytes_of_a_stream_look_uniform():
    counts = np.bincount(np.frombuffer(whole(b"u" * 32, 1 << 15), np.uint8), minlength=256)
    expected = (1 << 18) / 256

    chi_square = float(((counts - expected) ** 2 / expected).sum())

    assert 150 < chi_square < 380  # 255 degrees of freedom: 1e-6 tails on either side


def test_a_key_of_another_length_is_refused():
    with pytest.raises(ValueError, match="32 bytes, got 16"):
        KeyStream(bytes(16))
