import secrets
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.sealing import agree, box_key, seal, unseal, x25519_key

KEY = b"k" * 32


def test_a_box_opens_with_its_key_and_context():
    assert unseal(KEY, seal(KEY, b"share", b"a to b", secrets.token_bytes), b"a to b") == b"share"


@pytest.mark.parametrize(
    ("key", "context", "change"),
    [(b"x" * 32, b"a to b", 0), (KEY, b"b to a", 0), (KEY, b"a to b", 1), (KEY, b"a to b", 128)],
)
def test_a_box_opens_for_nothing_else(key: bytes, context: bytes, change: int):
    box = bytearray(seal(KEY, b"share", b"a to b", secrets.token_bytes))
    box[-1] ^= change

    with pytest.raises(ProtocolError, match="does not open"):
        unseal(key, bytes(box), context)


def test_a_box_cut_short_is_refused():
    with pytest.raises(ProtocolError, match="does not open"):
        unseal(KEY, b"short", b"")


def test_the_two_directions_have_two_keys_and_each_transcript_its_own():
    keys = {
        box_key(b"s" * 32, t, a, b) for t in (b"1", b"2") for a, b in (("a", "b"), ("b", "a"), ("ab", ""), ("", "ab"))
    }

    assert len(keys) == 8


def test_both_ends_agree():
    a, b = X25519PrivateKey.generate(), X25519PrivateKey.generate()

    assert agree(a, b.public_key().public_bytes_raw(), "b") == agree(b, a.public_key().public_bytes_raw(), "a")


@pytest.mark.parametrize("low_order", [bytes(32), (1).to_bytes(32, "little"), (2**255 - 19 - 1).to_bytes(32, "little")])
def test_a_key_of_low_order_is_refused(low_order: bytes):
    with pytest.raises(ProtocolError, match="key of eve is of low order"):
        agree(X25519PrivateKey.generate(), low_order, "eve")


P = 2**255 - 19


@pytest.mark.parametrize("twin", [lambda key: key | 1 << 255, lambda key: key + P if key + P < 1 << 255 else P])
def test_a_keys_twin_is_refused_though_it_gives_the_same_secret(twin: Callable[[int], int]):
    mine, theirs = X25519PrivateKey.generate(), X25519PrivateKey.from_private_bytes(b"a" * 32)
    key = int.from_bytes(theirs.public_key().public_bytes_raw(), "little")
    other = twin(key).to_bytes(32, "little")
    if twin(key) & (1 << 255):
        assert mine.exchange(X25519PublicKey.from_public_bytes(other)) == mine.exchange(theirs.public_key())

    with pytest.raises(ProtocolError, match="not spelt canonically"):
        agree(mine, other, "eve")
    with pytest.raises(ProtocolError, match="not spelt canonically"):
        x25519_key(other, "eve")


@pytest.mark.parametrize("value", [P, P + 9, 2**255 - 1, 2**256 - 1])
def test_a_number_that_is_not_reduced_is_no_key(value: int):
    with pytest.raises(ProtocolError, match="not spelt canonically"):
        x25519_key(value.to_bytes(32, "little"), "eve")
