from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto import hpke
from fedcollm_crypto.errors import ProtocolError

KEM = MLKEM768PrivateKey.from_seed_bytes(b"k" * 64)
X25519 = X25519PrivateKey.from_private_bytes(b"x" * 32)
OTHER_KEM = MLKEM768PrivateKey.from_seed_bytes(b"o" * 64)
OTHER_X25519 = X25519PrivateKey.from_private_bytes(b"o" * 32)
PUBLIC = KEM.public_key().public_bytes_raw(), X25519.public_key().public_bytes_raw()


def flipped(place: int) -> Callable[[bytes], bytes]:
    return lambda box: box[:place] + bytes([box[place] ^ 1]) + box[len(box[:place]) + 1 :]


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "another encapsulation": flipped(0),
    "another end of the encapsulation": flipped(1087),
    "another byte behind it": flipped(1088),
    "another last byte": flipped(-1),
    "cut short": lambda box: box[:-1],
    "one byte": lambda box: box[:1],
    "nothing": lambda _: b"",
}


def test_both_kinds_of_box_open_with_their_keys_and_context():
    kem, hybrid = hpke.seal_kem(PUBLIC[0], b"secret", b"a to b", "b"), hpke.seal_hybrid(PUBLIC, b"s", b"a to b", "b")

    assert hpke.open_kem(KEM, kem, b"a to b") == b"secret"
    assert hpke.open_hybrid((KEM, X25519), hybrid, b"a to b") == b"s"
    assert (len(kem), len(hybrid)) == (6 + hpke.KEM_OVERHEAD_BYTES, 1 + hpke.HYBRID_OVERHEAD_BYTES)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_box_does_not_open(change: str):
    kem, hybrid = hpke.seal_kem(PUBLIC[0], b"secret", b"c", "b"), hpke.seal_hybrid(PUBLIC, b"secret", b"c", "b")

    with pytest.raises(ProtocolError, match="mask secret does not open"):
        hpke.open_kem(KEM, CHANGES[change](kem), b"c")
    with pytest.raises(ProtocolError, match="box of shares does not open"):
        hpke.open_hybrid((KEM, X25519), CHANGES[change](hybrid), b"c")


@pytest.mark.parametrize(
    ("kem", "x25519", "context"), [(OTHER_KEM, X25519, b"c"), (KEM, OTHER_X25519, b"c"), (KEM, X25519, b"d")]
)
def test_a_hybrid_box_needs_both_keys_and_its_context(kem, x25519, context: bytes):
    box = hpke.seal_hybrid(PUBLIC, b"secret", b"c", "b")

    with pytest.raises(ProtocolError, match="does not open"):
        hpke.open_hybrid((kem, x25519), box, context)


@pytest.mark.parametrize(("kem", "context"), [(OTHER_KEM, b"c"), (KEM, b"d")])
def test_a_sealed_secret_needs_its_key_and_its_context(kem, context: bytes):
    with pytest.raises(ProtocolError, match="does not open"):
        hpke.open_kem(kem, hpke.seal_kem(PUBLIC[0], b"secret", b"c", "b"), context)


def test_sealing_twice_gives_two_boxes():
    assert len({hpke.seal_hybrid(PUBLIC, b"", b"", "b")[:1088] for _ in range(3)}) == 3


@pytest.mark.parametrize("public", [bytes(1183), bytes(1185), b"\xff" * 1184, b""])
def test_bytes_that_are_no_key_are_refused(public: bytes):
    with pytest.raises(ProtocolError, match="ML-KEM-768 key of eve is not one"):
        hpke.seal_kem(public, b"", b"", "eve")


@pytest.mark.parametrize("low_order", [bytes(32), (1).to_bytes(32, "little")])
def test_a_key_of_low_order_is_refused(low_order: bytes):
    with pytest.raises(ProtocolError, match="key of eve is of low order"):
        hpke.seal_hybrid((PUBLIC[0], low_order), b"", b"", "eve")
