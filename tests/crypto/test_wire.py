import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcollm_crypto import wire
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.wire import fill, join, word_chunks, words


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50), st.integers(1, 70))
def test_a_vector_survives_any_cut_of_its_bytes(entries: list[int], piece: int):
    vector = np.array(entries, dtype=np.uint64)
    data = b"".join(chunk.tobytes() for chunk in word_chunks(vector, 64)) + b"rest"
    target = words(len(vector), 64)

    rest = fill(target, (data[i : i + piece] for i in range(0, len(data), piece)))

    assert rest == b"rest"
    assert np.array_equal(target, vector)


def test_a_32_bit_ring_takes_half_the_bytes_and_reduces():
    vector = np.array([1, 2**32 + 5, 2**64 - 1], dtype=np.uint64)

    data = b"".join(chunk.tobytes() for chunk in word_chunks(vector, 32))

    assert data == bytes.fromhex("01000000 05000000 ffffffff")


@pytest.mark.parametrize("ring_bits", [32, 64])
def test_a_vector_longer_than_a_chunk_is_cut(ring_bits):
    word_bytes = ring_bits // 8
    vector = np.arange(2 * wire.CHUNK_BYTES // word_bytes + 1, dtype=np.uint64)

    sizes = [chunk.nbytes for chunk in word_chunks(vector, ring_bits)]

    assert sizes == [wire.CHUNK_BYTES, wire.CHUNK_BYTES, word_bytes]


def test_a_short_vector_is_refused():
    with pytest.raises(ProtocolError, match="24 bytes was expected, the reply ends after 23"):
        fill(words(3, 64), [bytes(23)])


def test_a_flood_behind_a_vector_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wire, "MAX_MESSAGE_BYTES", 10)

    with pytest.raises(ProtocolError, match="more than 10 bytes"):
        fill(words(1, 64), [bytes(8), bytes(6), bytes(6)])


def test_a_flood_instead_of_a_message_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wire, "MAX_MESSAGE_BYTES", 10)

    assert join([bytes(5), bytes(5)]) == bytes(10)
    with pytest.raises(ProtocolError, match="longer than 10 bytes"):
        join([bytes(6), bytes(6)])


def test_other_rings_do_not_exist():
    with pytest.raises(ValueError, match="ring_bits must be 32 or 64, got 16"):
        words(1, 16)
