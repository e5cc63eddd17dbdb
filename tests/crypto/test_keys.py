import hashlib
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import (
    HYBRID_DOMAIN,
    HYBRID_SIGNATURE_BYTES,
    Identity,
    check_ed25519,
    signing_input,
    verification_key,
    verify_signature,
)


@pytest.mark.parametrize("password", [None, b"correct horse"])
def test_a_key_survives_its_file_and_only_its_owner_can_read_it(tmp_path: Path, password: bytes | None):
    identity = Identity.generate("silo-1")
    identity.save(tmp_path / "key.pem", password)

    assert Identity.load("silo-1", tmp_path / "key.pem", password).public_key == identity.public_key
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    assert (b"ENCRYPTED" in (tmp_path / "key.pem").read_bytes()) == (password is not None)


@pytest.mark.parametrize("password", [None, b"correct horse"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_both_keys_of_a_hybrid_identity_survive_their_file(tmp_path: Path, password: bytes | None, newline: bytes):
    identity = Identity.generate("silo-1", post_quantum=True)
    identity.save(tmp_path / "key.pem", password)
    (tmp_path / "copy.pem").write_bytes((tmp_path / "key.pem").read_bytes().replace(b"\n", newline))

    assert Identity.load("silo-1", tmp_path / "copy.pem", password).public_keys == identity.public_keys
    assert [len(key) for key in identity.public_keys] == [32, 1312]


def test_two_keys_of_one_kind_or_in_another_order_are_refused(tmp_path: Path):
    for party, hybrid in (("a", True), ("b", False)):
        Identity.generate(party, post_quantum=hybrid).save(tmp_path / party)
    ed25519, mldsa44 = (tmp_path / "a").read_bytes()[:119], (tmp_path / "a").read_bytes()[119:]
    for number, blocks in enumerate([ed25519 * 2, mldsa44 + ed25519, mldsa44, ed25519 + mldsa44 * 2]):
        (tmp_path / str(number)).write_bytes(blocks)

        with pytest.raises(ValueError, match="an Ed25519 private key was expected"):
            Identity.load("a", tmp_path / str(number))


def test_a_key_file_is_never_overwritten(tmp_path: Path):
    Identity.generate("a").save(tmp_path / "key.pem")

    with pytest.raises(FileExistsError):
        Identity.generate("b").save(tmp_path / "key.pem")


@pytest.mark.parametrize(("saved", "given"), [(b"right", b"wrong"), (b"right", None), (None, b"needless")])
def test_a_wrong_password_is_refused(tmp_path: Path, saved: bytes | None, given: bytes | None):
    Identity.generate("a").save(tmp_path / "key.pem", saved)

    with pytest.raises(ValueError, match="password"):
        Identity.load("a", tmp_path / "key.pem", given)


def test_a_key_of_another_kind_is_refused(tmp_path: Path):
    pem = X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)

    with pytest.raises(ValueError, match="an Ed25519 private key was expected"):
        Identity.load("a", tmp_path / "key.pem")


def test_a_signature_speaks_for_one_kind_of_message_and_one_body():
    identity = Identity.generate("a")
    key = Ed25519PublicKey.from_public_bytes(identity.public_key)
    signature = identity.sign("consent", b"{}")

    verify_signature(key, "consent", b"{}", signature, "a")
    for kind, body in (("hello", b"{}"), ("consent", b"[]")):
        with pytest.raises(ProtocolError, match=f"signature of a under a message of kind {kind} does not verify"):
            verify_signature(key, kind, body, signature, "a")


def test_what_is_signed_is_as_specified():
    hashed = hashlib.sha256(b"{}").digest()

    assert signing_input("hello", b"{}") == b"fedcollm/v1/hello\0" + hashed
    assert signing_input("hello", b"{}", HYBRID_DOMAIN) == b"fedcollm/v1+mldsa44/hello\0" + hashed


def test_a_hybrid_signature_counts_only_whole():
    identity, other = Identity.generate("a", post_quantum=True), Identity.generate("b", post_quantum=True)
    key = verification_key(*identity.public_keys)
    whole, foreign = identity.sign("hello", b"{}"), other.sign("hello", b"{}")
    bad = {
        "Ed25519 alone": whole[:64],
        "ML-DSA-44 alone": whole[64:],
        "Ed25519 with a foreign ML-DSA-44": whole[:64] + foreign[64:],
        "a foreign Ed25519 with ML-DSA-44": foreign[:64] + whole[64:],
        "ML-DSA-44 first": whole[64:] + whole[:64],
        "a classical signature": Identity(party="a", key=identity.key).sign("hello", b"{}"),
        "a byte too many": whole + b"\0",
        "nothing": b"",
    }

    verify_signature(key, "hello", b"{}", whole, "a")
    assert len(whole) == HYBRID_SIGNATURE_BYTES
    for signature in bad.values():
        with pytest.raises(ProtocolError, match="the signature of a under a message of kind hello does not verify"):
            verify_signature(key, "hello", b"{}", signature, "a")


def test_no_half_of_a_hybrid_signature_passes_for_a_classical_one():
    identity = Identity.generate("a", post_quantum=True)

    with pytest.raises(ProtocolError, match="does not verify"):
        verify_signature(verification_key(identity.public_key), "hello", b"{}", identity.sign("hello", b"{}")[:64], "a")


def test_a_private_key_is_not_printed():
    for post_quantum in (False, True):
        assert repr(Identity.generate("a", post_quantum=post_quantum)) == "Identity(party='a')"


# --- Ed25519 keys that are none; the points come from the group law, not from a list ---

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
ORDER = 2**252 + 27742317777372353535851937790883648493
Point = tuple[int, int]


def added(one: Point, other: Point) -> Point:
    (x1, y1), (x2, y2) = one, other
    product = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P)
    return x % P, (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P


def times(number: int, point: Point) -> Point:
    found = (0, 1)
    for bit in bin(number)[2:]:
        found = added(found, found)
        found = added(found, point) if bit == "1" else found
    return found


def point_with(y: int) -> Point | None:
    """Return a point with this y, if there is one; p = 5 mod 8 gives the root."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    root = root if root * root % P == square else root * pow(2, (P - 1) // 4, P) % P
    return (root, y) if root * root % P == square else None


def torsion() -> set[Point]:
    """Return the points whose order divides 8: multiples of one of order 8."""
    for y in range(2, 200):
        point = point_with(y)
        small = times(ORDER, point) if point else (0, 1)
        if times(4, small) != (0, 1):
            return {times(number, small) for number in range(8)}
    raise AssertionError("no point of order 8 was found")


def spellings(y: int, sign: int) -> list[bytes]:
    """Return every 32 bytes that a lax reader takes for this y and sign of x."""
    return [(value | sign << 255).to_bytes(32, "little") for value in (y, y + P) if value < 1 << 255]


def test_the_eight_points_of_small_order_are_refused_in_every_spelling() -> None:
    points = torsion()
    assert len(points) == 8
    keys = {key for x, y in points for sign in (0, 1) for key in spellings(y, sign)}
    assert len(keys) == 14  # as Chalkias, Garillot and Nikolaenko count them (2020/1244): 8 canonical, 6 not

    for key in keys:
        with pytest.raises(ValueError, match=r"small order|not spelt canonically"):
            check_ed25519(key)
        with pytest.raises(ValueError, match=r"small order|not spelt canonically"):
            verification_key(key)


def test_a_signature_under_a_point_of_small_order_would_fit_any_message() -> None:
    key, signature = (1).to_bytes(32, "little"), (1).to_bytes(32, "little") + bytes(32)

    for message in (b"yes", b"no"):
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)  # OpenSSL takes it


def test_bytes_that_are_no_point_or_not_reduced_are_refused() -> None:
    off = next(y for y in range(2, 50) if point_with(y) is None)
    with pytest.raises(ValueError, match="no point of the curve"):
        check_ed25519(off.to_bytes(32, "little"))
    for y in range(P, 1 << 255):
        with pytest.raises(ValueError, match="not spelt canonically"):
            check_ed25519(y.to_bytes(32, "little"))
    with pytest.raises(ValueError, match="32 bytes, got 31"):
        check_ed25519(bytes(31))


def test_keys_that_were_drawn_are_taken() -> None:
    for number in range(50):
        check_ed25519(Identity.generate("a", lambda count, number=number: bytes([number]) * count).public_key)
